"""Lines of a JSONL file as JSON values, with everything that can be wrong before their meaning is looked at.

orjson reads the usual line. It takes the last of two equal keys without a word, so the keys are counted; a line where a key was
lost, and every line that it refuses, is read again by the exact reader, which says what is wrong and where.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

import orjson

from tuneline.data.problems import Finding, pointer_step, quoted

MAX_LINE_BYTES = 10_000_000
MAX_DEPTH = 64
UNREADABLE = object()
"""The value of a line that has none."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# Possessive, and the closing quote is optional: linear time and constant memory on any input.
STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
TRUNCATED = Finding("", "truncated-last-line", "the last line is cut off: no line end and no whole JSON value. Copy the file again or delete the line.")
UNUSABLE_CHARACTER = re.compile("[\0\ud800-\udfff]")


class Line(NamedTuple):
    """One line of a file."""

    number: int
    data: bytes
    """Without its line end; of an oversized line only the beginning."""
    is_terminated: bool
    is_oversized: bool


class Decoded(NamedTuple):
    """A line's value, or why it has none."""

    value: object
    findings: Sequence[Finding] = ()


class _DoubledKeys(dict[str, object]):
    """An object that named some keys more than once."""

    doubled: list[str]


class _NotFinite:
    """Stands for NaN, Infinity or a number that no float can hold."""


def read_lines(stream: IO[bytes], end: int | None = None, number: int = 1) -> Iterator[Line]:
    """The lines that begin before byte `end`, in constant memory."""
    position = stream.tell() if end is not None else 0
    while (end is None or position < end) and (data := stream.readline(MAX_LINE_BYTES + 2)):
        position += len(data)
        is_terminated = data.endswith(b"\n")
        is_oversized = len(data) - is_terminated > MAX_LINE_BYTES
        rest = data
        while is_oversized and rest and not rest.endswith(b"\n"):
            rest = stream.readline(1 << 20)
            position += len(rest)
        yield Line(number, data[:-1] if is_terminated else data, is_terminated, is_oversized)
        number += 1


def skip_to_line_start(stream: IO[bytes], start: int) -> None:
    """Go to the first line that begins at byte `start` or later."""
    if start:
        stream.seek(start - 1)
        while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
            pass


def decode(line: Line) -> Decoded:
    """The line's JSON value; without findings it is exactly what the line says."""
    data = line.data
    before: list[Finding] = []
    if line.is_oversized:
        return Decoded(UNREADABLE, [Finding("", "line-too-long", f"the line is over {MAX_LINE_BYTES:,} bytes; leave the example out or shorten it.")])
    if line.number == 1 and data.startswith(BYTE_ORDER_MARK):
        data = data[len(BYTE_ORDER_MARK) :]
        before.append(Finding("", "byte-order-mark", "the file begins with a byte order mark; save it as plain UTF-8."))
    if data.endswith(b"\r"):
        data = data[:-1]
        before.append(Finding("", "crlf-line-ending", "the line ends with CR LF; expected LF alone. Save the file with Unix line ends."))
    if not data or data.isspace():
        return Decoded(UNREADABLE, [*before, Finding("", "blank-line", "the line is blank; expected one JSON object a line. Delete it.")])
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return _exactly(data, before, line.is_terminated)
    if _is_plain(data, value):
        return Decoded(value, before)
    return _exactly(data, before, line.is_terminated)


def _is_plain(data: bytes, value: object) -> bool:
    """Whether a line that is JSON has no doubled key, no NUL and no great depth."""
    return _num_key_tokens(data) == _num_keys(value, MAX_DEPTH) and b"\\u0000" not in data


def _num_key_tokens(data: bytes) -> int:
    """How many keys a JSON text writes. The value has fewer when some are equal.

    Without escaped quotes, every second piece between quotes lies outside of all strings, and a string is a key when a colon follows.
    """
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    return sum(piece[:1] == b":" or piece.lstrip()[:1] == b":" for piece in data.split(b'"')[2::2])


def _num_keys(value: object, levels: int) -> float:
    """How many keys a value has in all; minus infinity when it is deeper than `levels`."""
    if not levels:
        return -math.inf if isinstance(value, dict | list) else 0
    num_keys: float = 0
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        num_keys, inner = len(value), value.values()
    elif isinstance(value, list):
        inner = value
    for item in inner:
        if type(item) is not str:
            num_keys += _num_keys(item, levels - 1)
    return num_keys


def _exactly(data: bytes, before: list[Finding], is_terminated: bool) -> Decoded:
    """Read a line slowly, and name every reason why it cannot be used."""
    if (place := data.find(b"\0")) >= 0:
        return Decoded(
            UNREADABLE, [*before, Finding("", "nul-character", f"a NUL byte at column {place + 1}; expected text. The file may be damaged or UTF-16.")]
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.reason == "unexpected end of data" and not is_terminated:
            return Decoded(UNREADABLE, [*before, TRUNCATED])
        return Decoded(UNREADABLE, [*before, Finding("", "not-utf-8", f"column {error.start + 1} is not UTF-8; save the file as UTF-8.")])
    if _is_too_deep(data):
        return Decoded(UNREADABLE, [*before, Finding("", "too-deep", f"more than {MAX_DEPTH} nested objects and lists; no data format needs so many.")])
    try:
        value = _EXACT.decode(text)
    except json.JSONDecodeError as error:
        if not is_terminated:
            return Decoded(UNREADABLE, [*before, TRUNCATED])
        reason = error.msg.partition(":")[0]
        return Decoded(
            UNREADABLE, [*before, Finding("", "invalid-json", f"not valid JSON at column {error.pos + 1} ({reason}); expected one JSON object a line.")]
        )
    found = list(_unusable(value, ""))
    return Decoded(UNREADABLE if found else value, before + found)


def _is_too_deep(data: bytes) -> bool:
    depth = 0
    for match in STRING_OR_BRACKET.finditer(data):
        token = match[0]
        depth += (token in b"[{") - (token in b"]}")
        if depth > MAX_DEPTH:
            return True
    return False


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    result = _DoubledKeys(values)
    result.doubled = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
    return result


def _number(text: str) -> object:
    number = float(text)
    return number if math.isfinite(number) else _NotFinite()


_EXACT = json.JSONDecoder(object_pairs_hook=_object, parse_float=_number, parse_int=_number, parse_constant=lambda _: _NotFinite())


def _unusable(value: object, pointer: str) -> Iterator[Finding]:
    """Findings for what JSON can spell and text or numbers cannot be."""
    if isinstance(value, _NotFinite):
        yield Finding(pointer, "not-finite-number", "NaN, Infinity or a number beyond any float; no data format has numbers.")
    elif isinstance(value, str):
        if match := UNUSABLE_CHARACTER.search(value):
            yield _character_finding(pointer, match)
    elif isinstance(value, dict):
        for key in value.doubled if isinstance(value, _DoubledKeys) else ():
            yield Finding(pointer + pointer_step(key), "duplicate-key", f"the key {quoted(key)} stands more than once in one object; keep one.")
        for key, inner in value.items():
            if match := UNUSABLE_CHARACTER.search(key):
                yield _character_finding(pointer + pointer_step(key), match)
            yield from _unusable(inner, pointer + pointer_step(key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _unusable(inner, f"{pointer}/{index}")


def _character_finding(pointer: str, match: re.Match[str]) -> Finding:
    if match[0] == "\0":
        return Finding(pointer, "nul-character", f"a NUL character (\\u0000) at character {match.start() + 1}; expected text.")
    return Finding(pointer, "lone-surrogate", f"half of a surrogate pair at character {match.start() + 1}; no text can hold it. Encode the character again.")
