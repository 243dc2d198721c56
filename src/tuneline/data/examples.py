"""The examples of a JSONL file, one after the other, with every problem at its line. Validation and transformation both read here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from tuneline.data.conversation import Conversation
from tuneline.data.formats import FORMATS, read_object
from tuneline.data.json_lines import UNREADABLE, decode, read_lines, skip_to_line_start
from tuneline.data.problems import Finding, Problems


class Example(NamedTuple):
    """A conversation and the line it stands on."""

    line: int
    conversation: Conversation


@dataclass(kw_only=True)
class Tally:
    """What a pass over a file has seen so far."""

    data_format: str = ""
    """The format of the first line that has one; all lines must have it."""
    format_line: int = 0
    lines: int = 0
    examples: int = 0
    """Lines that are not blank, right or wrong."""
    author_fields: int = 0


def read_examples(
    stream: IO[bytes], problems: Problems, tally: Tally, *, default_context: str = "", start: int = 0, end: int | None = None, number: int = 1
) -> Iterator[Example]:
    """The readable examples whose lines begin in bytes `start` to `end`; `number` is the number of the first of these lines."""
    skip_to_line_start(stream, start)
    for line in read_lines(stream, end, number):
        tally.lines += 1
        value, findings = decode(line)
        for finding in findings:
            problems.add(line.number, finding)
        if value is UNREADABLE:
            tally.examples += findings[-1].rule != "blank-line"
            continue
        tally.examples += 1
        read = read_object(value, default_context, tally.data_format)
        for finding in read.findings:
            problems.add(line.number, finding)
        if read.data_format and read.data_format != tally.data_format:
            if tally.data_format:
                problems.add(line.number, _other_format(read.data_format, tally))
            else:
                tally.data_format, tally.format_line = read.data_format, line.number
        if read.data_format == "author-chat":
            tally.author_fields += read.num_turns
        if read.conversation is not None:
            yield Example(line.number, read.conversation)


def first_format(stream: IO[bytes]) -> tuple[str, int]:
    """Format and line of the first line that has one."""
    for line in read_lines(stream):
        value = decode(line).value
        data_format = "" if value is UNREADABLE else read_object(value).data_format
        if data_format:
            return data_format, line.number
    return "", 0


def _other_format(data_format: str, tally: Tally) -> Finding:
    here, there = FORMATS[data_format], FORMATS[tally.data_format]
    message = f"{here}, but line {tally.format_line} has {there}; a file has one format. Put the others into a file of their own."
    return Finding("", "two-formats-in-file", message)
