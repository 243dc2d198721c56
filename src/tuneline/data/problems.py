"""What is wrong with a data file: one line each, with its place and a rule's name, and never with the data's own text."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tuneline.errors import DatasetError

MAX_KEPT = 1_000
RULES: Mapping[str, str] = {
    "unreadable-file": "the file is not there, is a folder or may not be read",
    "empty-file": "the file has no line",
    "not-utf-8": "a byte that is not UTF-8",
    "byte-order-mark": "the file begins with a byte order mark",
    "crlf-line-ending": "a line ends with CR LF instead of LF",
    "nul-character": "a NUL byte, or `\\u0000` in a text",
    "lone-surrogate": "half of a surrogate pair, such as `\\ud83d`, which no text can hold",
    "blank-line": "a line without anything in it",
    "line-too-long": "a line of more than 10,000,000 bytes",
    "truncated-last-line": "the last line has no line end and is no whole JSON value",
    "invalid-json": "a line that is not JSON",
    "too-deep": "more than 64 nested objects and lists",
    "duplicate-key": "a key that stands twice in one object",
    "not-finite-number": "`NaN`, `Infinity` or a number such as `1e999`",
    "not-an-object": "a line that is JSON, but no object",
    "unknown-format": "an object without a key of any format",
    "two-formats-in-line": "an object with keys of more than one format",
    "two-formats-in-file": "a line of another format than the lines before",
    "unknown-key": "a key that the format does not have",
    "missing-field": "a key that the format needs",
    "null-value": "`null` where a value is needed",
    "wrong-type": "a value of another type, such as a number for a text",
    "empty-content": "a text or list without anything in it, or of white space only",
    "wrong-role": "a speaker that the format does not have",
    "wrong-order": "turns that do not begin with the user and alternate, or a system turn that is not the first",
    "last-turn-not-assistant": "a conversation that does not end with the assistant's turn",
    "media-not-supported": "an image or file",
    "too-few-examples": "fewer examples than the base model's reference asks for",
    "too-many-examples": "more examples than the base model's reference allows",
    "too-many-author-fields": "more `author` fields in all than the base model's reference allows",
    "too-long": "an example of more tokens than the base model reads, with overlength_policy `error`",
    "template-refuses": "a conversation that the base model's chat template does not take, such as one with a system turn",
    "prompt-not-prefix": "with the chat template, the prompt of serving is not the beginning of the example",
    "no-trained-token": "an example of which nothing would be learned",
}
"""Every rule, in the order in which a file is read."""
SHORT_NAME = re.compile(r"[A-Za-z0-9_.$<>|:@-]{1,32}", re.ASCII)


class Finding(NamedTuple):
    """What is wrong at one place of one line."""

    pointer: str
    """JSON pointer into the line's object; empty for the whole line."""
    rule: str
    message: str
    """Found, expected, what to do."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A finding with its file and line; line 0 is the file as a whole."""

    file: str
    line: int
    pointer: str
    rule: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        pointer = f" {self.pointer}:" if self.pointer else ""
        return f"{place}:{pointer} {self.message} [{self.rule}]"


class ExampleError(DatasetError):
    """One readable example that cannot become tokens."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule = rule


class Problems:
    """Collects the problems of one file: the first ones as a whole, all of them counted by rule."""

    def __init__(self, file: str, max_kept: int = MAX_KEPT) -> None:
        self.file = file
        self.max_kept = max_kept
        self.kept: list[Problem] = []
        self.counts: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self.counts)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.kept)

    def add(self, line: int, finding: Finding) -> None:
        """Count a finding and keep it while there is room."""
        self.counts[finding.rule] += 1
        if len(self.kept) < self.max_kept:
            self.kept.append(Problem(self.file, line, *finding))

    @property
    def num_left_out(self) -> int:
        """Problems that are counted and not kept."""
        return self.counts.total() - len(self.kept)


def raise_problems(files: Iterable[Problems]) -> None:
    """Raise one DatasetError with the problems of all files, or nothing when there are none."""
    found = [problems for problems in files if problems]
    if found:
        lines = [str(problem) for problems in found for problem in problems]
        lines += [f"{problems.file}: and {problems.num_left_out} more problems." for problems in found if problems.num_left_out]
        raise DatasetError(*lines, next_action="Mend these lines, then check with: tuneline validate FILE")


def quoted(name: str) -> str:
    """A key or role as a message may show it: short plain names only, so that text of the data never gets into a log."""
    return repr(name) if SHORT_NAME.fullmatch(name) else f"a text of {len(name)} characters"


def pointer_step(key: str) -> str:
    """A key as a step of a JSON pointer."""
    return "/" + (key if SHORT_NAME.fullmatch(key) else f"<key of {len(key)} characters>")


def kind_of(value: object) -> str:
    """A JSON value's type in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
