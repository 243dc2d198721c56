"""Checks a data file as a whole: every line, then the number of examples. Streaming, so memory does not grow with the file.

A large local file is read in two halves, the second by a child process that runs this module:

    python -m tuneline.data.file_validation FILE START END FORMAT FORMAT_LINE MAX_KEPT
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from tuneline.data.data_files import local_path, open_data
from tuneline.data.examples import Example, Tally, first_format, read_examples
from tuneline.data.problems import MAX_KEPT, Finding, Problem, Problems
from tuneline.errors import DatasetError, InfrastructureError
from tuneline.resolution import Limits

DataRole = Literal["train", "evaluation"]
Encode = Callable[[Iterable[Example], Problems], Iterable[object]]

PARALLEL_BYTES = 16_000_000
"""A second process pays from about here on; it takes 0.1 s to start."""
CHILD_FIRST_NUMBER = 2
"""A child does not know its line numbers; it counts from here, as line 1 alone may be told to have a byte order mark."""


class Half(TypedDict):
    """What a child tells of its part of a file."""

    findings: list[tuple[int, str, str, str]]
    """Line, pointer, rule and message."""
    counts: dict[str, int]
    lines: int
    examples: int
    author_fields: int


@dataclass(frozen=True, kw_only=True)
class FileReport:
    """What a file holds and what is wrong with it."""

    file: str
    data_format: str
    lines: int
    examples: int
    author_fields: int
    problems: Problems

    @property
    def ok(self) -> bool:
        return not self.problems


def validate_file(
    uri: str,
    *,
    role: DataRole = "train",
    limits: Limits = Limits(),
    default_context: str = "",
    encode: Encode | None = None,
    max_kept: int = MAX_KEPT,
    parallel_bytes: int = PARALLEL_BYTES,
) -> FileReport:
    """Check one file. With `encode` (an `ExampleEncoder`'s) also the lengths. A file that cannot be opened is a problem of the report as well."""
    problems, tally = Problems(uri, max_kept), Tally()
    try:
        path = local_path(uri)
        if encode is None and path is not None and path.is_file() and path.stat().st_size >= parallel_bytes:
            _validate_halves(path, problems, tally)
        else:
            with open_data(uri) as stream:
                examples = read_examples(stream, problems, tally, default_context=default_context)
                _drain(encode(examples, problems) if encode else examples)
    except DatasetError as error:
        problems.add(0, Finding("", "unreadable-file", f"{' '.join(error.problems).removeprefix(uri).lstrip(': ')} {error.next_action}"))
    else:
        for finding in count_findings(tally, role, limits):
            problems.add(0, finding)
    return FileReport(file=uri, data_format=tally.data_format, lines=tally.lines, examples=tally.examples, author_fields=tally.author_fields, problems=problems)


def count_findings(tally: Tally, role: DataRole, limits: Limits) -> Iterator[Finding]:
    """What the numbers of lines, examples and `author` fields have wrong."""
    if not tally.lines:
        yield Finding("", "empty-file", "the file is empty; expected one JSON object a line.")
        return
    least, most = limits.min_training_examples, limits.max_training_examples
    if role == "evaluation":
        least, most = limits.min_evaluation_examples, limits.max_evaluation_examples
    if tally.examples < least:
        yield Finding("", "too-few-examples", f"{tally.examples:,} examples; this base model expects at least {least:,} for {role}. Add examples.")
    if most and tally.examples > most:
        yield Finding("", "too-many-examples", f"{tally.examples:,} examples; this base model takes at most {most:,} for {role}. Leave some out.")
    if limits.max_author_fields and tally.author_fields > limits.max_author_fields:
        most = limits.max_author_fields
        yield Finding(
            "", "too-many-author-fields", f"{tally.author_fields:,} 'author' fields; this base model takes at most {most:,}. Leave some examples out."
        )


def _drain(examples: Iterable[object]) -> None:
    for _ in examples:
        pass


def _validate_halves(path: Path, problems: Problems, tally: Tally) -> None:
    """Fill `problems` and `tally` as one pass over the file would."""
    with path.open("rb") as stream:
        data_format, format_line = first_format(stream)
        size = path.stat().st_size
        with _child(path, size // 2, size, data_format, format_line, problems.max_kept) as process:
            try:
                stream.seek(0)
                tally.data_format, tally.format_line = data_format, format_line
                _drain(read_examples(stream, problems, tally, end=size // 2))
                output, _ = process.communicate()
            except BaseException:  # also SIGTERM and Ctrl-C: do not wait for the other half
                process.kill()
                raise
    if process.returncode != 0:
        raise InfrastructureError(f"{path}: the process that read its second half ended with code {process.returncode}.", next_action="Try again.")
    _merge(json.loads(output), problems, tally)


def _child(path: Path, start: int, end: int, data_format: str, format_line: int, max_kept: int) -> subprocess.Popen[bytes]:
    arguments = [str(path), str(start), str(end), data_format, str(format_line), str(max_kept)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, "-m", "tuneline.data.file_validation", *arguments], stdout=subprocess.PIPE, env=environment)


def _merge(half: Half, problems: Problems, tally: Tally) -> None:
    """Add what a child found, with the line numbers of the whole file."""
    for line, *finding in half["findings"][: problems.max_kept - len(problems.kept)]:
        problems.kept.append(Problem(problems.file, line + tally.lines + 1 - CHILD_FIRST_NUMBER, *finding))
    problems.counts.update(half["counts"])
    tally.lines += half["lines"]
    tally.examples += half["examples"]
    tally.author_fields += half["author_fields"]


def _read_half(path: str, start: int, end: int, tally: Tally, max_kept: int) -> Half:
    problems = Problems(path, max_kept)
    with Path(path).open("rb") as stream:
        _drain(read_examples(stream, problems, tally, start=start, end=end, number=CHILD_FIRST_NUMBER))
    findings = [(problem.line, problem.pointer, problem.rule, problem.message) for problem in problems]
    return {"findings": findings, "counts": problems.counts, "lines": tally.lines, "examples": tally.examples, "author_fields": tally.author_fields}


if __name__ == "__main__":
    file, start, end, data_format, format_line, max_kept = sys.argv[1:]
    tally = Tally(data_format=data_format, format_line=int(format_line))
    json.dump(_read_half(file, int(start), int(end), tally, int(max_kept)), sys.stdout)
