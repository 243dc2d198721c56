import io
import itertools
import json

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tuneline.data import json_lines
from tuneline.data.json_lines import MAX_DEPTH, MAX_LINE_BYTES, UNREADABLE, Line, decode, read_lines, skip_to_line_start

BAD_LINES = [
    ("nul byte", b'{"a": "x\0"}', "nul-character", ""),
    ("escaped nul", rb'{"a": "x\u0000"}', "nul-character", "/a"),
    ("not utf-8", b'{"a": "\xff"}', "not-utf-8", ""),
    ("utf-8 surrogate", b'{"a": "\xed\xa0\x80"}', "not-utf-8", ""),
    ("lone surrogate", rb'{"a": "\ud800"}', "lone-surrogate", "/a"),
    ("lone low surrogate in a list", rb'{"a": [1, "\udc00"]}', "lone-surrogate", "/a/1"),
    ("surrogate in a key", rb'{"\ud800": 1}', "lone-surrogate", "/<key of 1 characters>"),
    ("doubled key", b'{"a": 1, "a": 1}', "duplicate-key", "/a"),
    ("doubled key inside", b'{"messages": [{}, {"role": "user", "content": "x", "role": "user"}]}', "duplicate-key", "/messages/1/role"),
    ("doubled key, space before the colon", b'{"a" : "x:y", "a" : "x"}', "duplicate-key", "/a"),
    ("doubled key by escape", rb'{"a": 1, "\u0061": 2}', "duplicate-key", "/a"),
    ("nan", b'{"a": NaN}', "not-finite-number", "/a"),
    ("infinity", b'{"a": [-Infinity]}', "not-finite-number", "/a/0"),
    ("huge float", b'{"a": 1e999}', "not-finite-number", "/a"),
    ("huge integer", b'{"a": ' + b"9" * 5000 + b"}", "not-finite-number", "/a"),
    ("too deep", b'{"a": ' + b"[" * 80 + b"]" * 80 + b"}", "too-deep", ""),
    ("depth bomb", b"[" * 100_000, "too-deep", ""),
    ("depth bomb of objects", b'{"a":' * 5000, "too-deep", ""),
    ("blank", b"", "blank-line", ""),
    ("white space", b" \t ", "blank-line", ""),
    ("not json", b"{'a': 1}", "invalid-json", ""),
    ("two values", b"{} {}", "invalid-json", ""),
    ("half a line", b'{"a": "x', "invalid-json", ""),
    ("text", b"hello", "invalid-json", ""),
    ("control character", b'{"a": "\x01"}', "invalid-json", ""),
]


def line(data: bytes, number: int = 2, *, is_terminated: bool = True) -> Line:
    return Line(number, data, is_terminated, is_oversized=False)


@pytest.mark.parametrize(("data", "rule", "pointer"), [case[1:] for case in BAD_LINES], ids=[case[0] for case in BAD_LINES])
def test_a_line_that_is_no_clean_json_is_named_by_rule_and_place(data: bytes, rule: str, pointer: str) -> None:
    value, findings = decode(line(data))
    assert value is UNREADABLE
    assert [(finding.rule, finding.pointer) for finding in findings] == [(rule, pointer)]


def test_every_finding_of_a_line_is_reported_at_once() -> None:
    _, findings = decode(line(rb'{"a": NaN, "b": "\ud800", "a": 1e999, "c": "\u0000"}' + b"\r"))
    assert [finding.rule for finding in findings] == ["crlf-line-ending", "duplicate-key", "not-finite-number", "lone-surrogate", "nul-character"]


def test_a_byte_order_mark_is_reported_and_the_line_still_read() -> None:
    value, findings = decode(line(b'\xef\xbb\xbf{"a": 1}', number=1))
    assert value == {"a": 1}
    assert [finding.rule for finding in findings] == ["byte-order-mark"]


def test_a_carriage_return_is_reported_and_the_line_still_read() -> None:
    value, findings = decode(line(b'{"a": 1}\r'))
    assert value == {"a": 1}
    assert [finding.rule for finding in findings] == ["crlf-line-ending"]


@pytest.mark.parametrize("data", [b'{"a": "x', b'{"a": "\xc3', b'{"a": 1'])
def test_a_last_line_that_is_cut_off_is_truncated(data: bytes) -> None:
    assert [finding.rule for finding in decode(line(data, is_terminated=False)).findings] == ["truncated-last-line"]


def test_a_last_line_without_line_end_is_fine_when_it_is_whole() -> None:
    assert decode(line(b'{"a": 1}', is_terminated=False)) == ({"a": 1}, [])


@pytest.mark.parametrize(
    "text",
    ["None", "nan", "NaN", "null", '{"a": 1, "a": 2}', "a : b", '"x":', "\\u0000 spelled out", "\\", "[[[[" * 40, "😀 é \t", "x" * 100_000, '\\":'],
)
def test_legitimate_text_is_never_refused(text: str) -> None:
    for ensure_ascii in (True, False):
        value, findings = decode(line(json.dumps({"a": text}, ensure_ascii=ensure_ascii).encode()))
        assert value == {"a": text}
        assert not findings


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=8) | st.sampled_from(['":', " :", 'a":"', "\\u0000", "\0", "[", "{"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.sampled_from(["a", 'a"', "a :", "\\"]), inner, max_size=3),
    max_leaves=8,
)


@given(JSON, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : "), (",\t", "\t:\t")]))
def test_the_fast_and_the_exact_reader_agree(value: object, ensure_ascii: bool, separators: tuple[str, str]) -> None:
    try:
        data = json.dumps(value, ensure_ascii=ensure_ascii, separators=separators).encode()
    except UnicodeEncodeError:
        return
    exact = json_lines._exactly(data, [], True)
    assert decode(line(data)) == exact
    if not exact.findings:
        assert exact.value == value


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(['"x"', "1", '"\\":"', '" :"', "{}"])), max_size=5), st.sampled_from(["", " ", "\t"]))
def test_no_doubled_key_is_ever_missed(pairs: list[tuple[str, str]], space: str) -> None:
    data = ("{" + ",".join(f'"{key}"{space}:{value}' for key, value in pairs) + "}").encode()
    has_doubled = len({key for key, _ in pairs}) < len(pairs)
    assert any(finding.rule == "duplicate-key" for finding in decode(line(data)).findings) == has_doubled


@given(
    st.binary(max_size=60) | st.text(alphabet='{}[]":,\\ eEnN0u\0\r\n\ud800', max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.booleans(),
)
@example(b'{"a":"' + b'\\"' * 50, True)
def test_any_bytes_give_a_value_or_a_finding(data: bytes, is_terminated: bool) -> None:
    value, findings = decode(line(data, is_terminated=is_terminated))
    assert (value is UNREADABLE) <= bool(findings)
    if value is not UNREADABLE:
        assert value == orjson.loads(data)


def test_brackets_within_texts_are_no_depth() -> None:
    assert not decode(line(json.dumps({"a": "[" * 1000, "b": {"a": '"' + "{" * 1000}}).encode())).findings


def test_depth_is_counted_to_the_last_level() -> None:
    assert decode(line(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)).value is not UNREADABLE
    assert decode(line(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1))).value is UNREADABLE


def test_an_oversized_line_is_reported_once_and_the_next_line_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_lines, "MAX_LINE_BYTES", 100)
    exact = b'"' + b"x" * 98 + b'"'
    lines = list(read_lines(io.BytesIO(exact + b"\n" + exact + b"x\n" + b"y" * 5_000_000 + b"\n{}\n" + b"z" * 101)))
    assert [(item.number, item.is_oversized) for item in lines] == [(1, False), (2, True), (3, True), (4, False), (5, True)]
    assert all(len(item.data) <= 102 for item in lines)
    assert decode(lines[1]).findings[0].rule == "line-too-long"


def test_the_limit_is_ten_million_bytes() -> None:
    assert MAX_LINE_BYTES == 10_000_000


@given(st.lists(st.sampled_from([b"", b"a", b"bb", b"\r", b"ccccccccccccccccccccccc"]), max_size=12), st.booleans(), st.integers(0, 80), st.integers(0, 80))
def test_byte_ranges_share_the_lines_out_without_loss(parts: list[bytes], is_terminated: bool, first: int, second: int) -> None:
    data = b"\n".join(parts) + (b"\n" if is_terminated and parts else b"")
    cuts = sorted({0, min(first, len(data)), min(second, len(data)), len(data)})
    found = []
    for start, end in itertools.pairwise(cuts):
        stream = io.BytesIO(data)
        skip_to_line_start(stream, start)
        found += [(item.data, item.is_terminated) for item in read_lines(stream, end)]
    assert found == [(item.data, item.is_terminated) for item in read_lines(io.BytesIO(data))]
