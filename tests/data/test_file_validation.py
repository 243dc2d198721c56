import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tuneline.data.file_validation import FileReport, validate_file
from tuneline.data.problems import raise_problems
from tuneline.errors import DatasetError, InfrastructureError
from tuneline.resolution import Limits

CANARY = "The wombat sleeps beneath the seventh bridge"
GOOD = json.dumps({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}).encode()
FAULTS: dict[str, bytes] = {
    "crlf-line-ending": GOOD + b"\r",
    "nul-character": GOOD.replace(b'"q"', b'"q\0"'),
    "not-utf-8": GOOD.replace(b'"q"', b'"q\xff"'),
    "lone-surrogate": GOOD.replace(b'"q"', rb'"\ud83d"'),
    "duplicate-key": GOOD.replace(b'"content": "q"', b'"content": "q", "content": "r"'),
    "not-finite-number": GOOD.replace(b'"q"', b"NaN"),
    "too-deep": b'{"messages": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    "line-too-long": b'{"prompt": "' + b"x" * 10_000_000 + b'"}',
    "blank-line": b"  ",
    "invalid-json": GOOD[:-5],
    "not-an-object": b"[1, 2]",
    "unknown-key": GOOD[:-1] + b', "weight": 1}',
    "unknown-format": b'{"question": "q"}',
    "two-formats-in-file": b'{"prompt": "q", "completion": "a"}',
    "two-formats-in-line": GOOD[:-1] + b', "contents": []}',
    "wrong-role": GOOD.replace(b'"user"', b'"human"'),
    "wrong-order": GOOD.replace(b'"user"', b'"assistant"'),
    "last-turn-not-assistant": b'{"messages": [{"role": "user", "content": "q"}]}',
    "empty-content": GOOD.replace(b'"q"', b'""'),
    "missing-field": GOOD.replace(b', "content": "a"', b""),
    "null-value": GOOD.replace(b'"q"', b"null"),
    "wrong-type": GOOD.replace(b'"q"', b"3"),
    "media-not-supported": GOOD.replace(b'"q"', b'[{"type": "image_url", "image_url": {"url": "gs://b/x.png"}}]'),
}


def write(path: Path, lines: list[bytes]) -> str:
    path.write_bytes(b"\n".join(lines) + b"\n")
    return str(path)


def found(report: FileReport) -> list[tuple[int, str]]:
    return [(problem.line, problem.rule) for problem in report.problems]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_planted_fault_is_reported_at_its_line_and_nothing_else(tmp_path: Path, rule: str) -> None:
    report = validate_file(write(tmp_path / "data.jsonl", [GOOD] * 6 + [FAULTS[rule]] + [GOOD] * 3))
    assert found(report) == [(7, rule)]
    assert report.lines == 10
    assert report.examples == (9 if rule == "blank-line" else 10)


def test_all_faults_of_a_file_are_reported_at_once_in_order(tmp_path: Path) -> None:
    planted = [(rule, fault) for rule, fault in FAULTS.items() if rule != "line-too-long"]
    lines, expected = [GOOD], []
    for rule, fault in planted:
        lines += [fault, GOOD]
        expected.append((len(lines) - 1, rule))
    assert found(validate_file(write(tmp_path / "data.jsonl", lines))) == expected


def test_a_clean_file_has_no_problem(tmp_path: Path) -> None:
    report = validate_file(write(tmp_path / "data.jsonl", [GOOD] * 5000))
    assert report.ok
    assert (report.data_format, report.lines, report.examples) == ("messages", 5000, 5000)


def test_the_two_halves_of_a_large_file_give_what_one_pass_gives(tmp_path: Path) -> None:
    rng = random.Random(3)
    faults = [fault for rule, fault in FAULTS.items() if rule != "line-too-long"]
    lines = [rng.choice(faults) if rng.random() < 0.05 else GOOD for _ in range(3000)]
    lines[:3] = [b"{}", b"\xef\xbb\xbf{}", GOOD]
    path = write(tmp_path / "daten ü.jsonl", lines)
    whole, halves = validate_file(path), validate_file(path, parallel_bytes=0)
    assert len(whole.problems.kept) > 100
    assert halves.problems.kept == whole.problems.kept
    assert halves.problems.counts == whole.problems.counts
    assert (halves.data_format, halves.lines, halves.examples) == (whole.data_format, whole.lines, whole.examples)
    assert validate_file(path, parallel_bytes=0, max_kept=5).problems.kept == whole.problems.kept[:5]


@pytest.mark.parametrize("lines", [[GOOD], [GOOD, GOOD], [b""], [b"x" * 5000, GOOD]])
def test_halves_of_tiny_files_are_whole_too(tmp_path: Path, lines: list[bytes]) -> None:
    path = write(tmp_path / "data.jsonl", lines)
    assert found(validate_file(path, parallel_bytes=0)) == found(validate_file(path))


def test_a_dying_second_process_is_an_infrastructure_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "false")
    monkeypatch.setenv("PATH", "/bin:/usr/bin")
    with pytest.raises(InfrastructureError, match="second half"):
        validate_file(write(tmp_path / "data.jsonl", [GOOD]), parallel_bytes=0)


def test_problems_are_counted_beyond_those_that_are_kept(tmp_path: Path) -> None:
    report = validate_file(write(tmp_path / "data.jsonl", [b"{}"] * 50), max_kept=10)
    assert len(report.problems.kept) == 10
    assert report.problems.counts == {"unknown-format": 50}
    assert report.problems.num_left_out == 40
    with pytest.raises(DatasetError, match="and 40 more problems"):
        raise_problems([report.problems])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", [(0, "empty-file")]),
        (b"\n", [(1, "blank-line"), (0, "too-few-examples")]),
        (b"\xef\xbb\xbf" + GOOD + b"\n", [(1, "byte-order-mark")]),
        (GOOD, []),
        (GOOD + b"\n" + GOOD[:-2], [(2, "truncated-last-line")]),
        (GOOD + b"\n\n", [(2, "blank-line")]),
        (GOOD.decode().encode("utf-16"), [(1, "nul-character"), (0, "x")]),
    ],
    ids=["empty", "one line end", "byte order mark", "no last line end", "cut off", "blank end", "utf-16"],
)
def test_the_ends_of_a_file_are_looked_at(tmp_path: Path, content: bytes, expected: list[tuple[int, str]]) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    if expected and expected[-1][1] == "x":
        assert {problem.rule for problem in validate_file(str(path)).problems} == {"nul-character"}
    else:
        assert found(validate_file(str(path))) == expected


def test_a_file_that_is_not_there_is_a_problem_of_its_report(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.jsonl", tmp_path):
        assert found(validate_file(str(path))) == [(0, "unreadable-file")]


LIMITS = Limits(min_training_examples=3, max_training_examples=5, max_author_fields=8, min_evaluation_examples=2, max_evaluation_examples=4)
AUTHORS = json.dumps({"messages": [{"author": "user", "content": "q"}, {"author": "assistant", "content": "a"}]}).encode()


@pytest.mark.parametrize(
    ("role", "count", "expected"),
    [
        ("train", 2, ["too-few-examples"]), ("train", 3, []), ("train", 5, []), ("train", 6, ["too-many-examples"]),
        ("evaluation", 1, ["too-few-examples"]), ("evaluation", 2, []), ("evaluation", 4, []), ("evaluation", 5, ["too-many-examples"]),
    ],
)  # fmt: skip
def test_the_number_of_examples_is_held_against_the_limits_of_the_role(tmp_path: Path, role: str, count: int, expected: list[str]) -> None:
    report = validate_file(write(tmp_path / "data.jsonl", [GOOD] * count), role=role, limits=LIMITS)  # type: ignore[arg-type]
    assert [problem.rule for problem in report.problems] == expected
    assert all(problem.line == 0 for problem in report.problems)


def test_author_fields_are_summed_over_all_examples(tmp_path: Path) -> None:
    fine = validate_file(write(tmp_path / "a.jsonl", [AUTHORS] * 4), limits=LIMITS)
    over = validate_file(write(tmp_path / "b.jsonl", [AUTHORS] * 5), limits=LIMITS, parallel_bytes=0)
    assert (fine.author_fields, fine.ok) == (8, True)
    assert [problem.rule for problem in over.problems] == ["too-many-author-fields"]


def test_no_message_quotes_the_data(tmp_path: Path) -> None:
    texts = [
        {"prompt": CANARY}, {"prompt": CANARY, "completion": None}, {CANARY: 1}, {"input_text": CANARY, "output_text": "a", CANARY: CANARY},
        {"messages": [{"role": CANARY, "content": CANARY}]}, {"messages": [{"role": "user", "content": [{"type": CANARY}]}]},
        {"messages": [CANARY, {"role": "user", "content": CANARY, CANARY: CANARY}]}, {"contents": [{"role": CANARY, "parts": [{CANARY: 1}]}]}, [CANARY],
    ]  # fmt: skip
    lines = [json.dumps(text).encode() for text in texts]
    lines += [lines[0][:-3], lines[0] + lines[0], b'{"' + CANARY.encode() + b'": 1, "' + CANARY.encode() + b'": NaN}', CANARY.encode()]
    report = validate_file(write(tmp_path / "data.jsonl", lines))
    assert {problem.line for problem in report.problems} == set(range(1, len(lines) + 1))
    assert not [str(problem) for problem in report.problems if any(word in str(problem) for word in ("wombat", "bridge", "seventh"))]


def test_checking_a_file_needs_neither_torch_nor_tokenizers_nor_fsspec() -> None:
    heavy = ("torch", "transformers", "tokenizers", "fsspec", "jinja2", "numpy")
    code = f"import sys, tuneline.data.file_validation; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
