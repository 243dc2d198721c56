import json
from pathlib import Path

import pytest

from tests.data.tiny_tokenizer import write_model
from tuneline import cli

GOOD = {"input_text": "q", "output_text": "a"}


def write(path: Path, rows: list[object]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def catalog(tmp_path: Path) -> str:
    """A catalogue in which the tiny model of the tests stands for the embedded one."""
    folder = write_model(tmp_path / "model")
    path = tmp_path / "catalog.toml"
    path.write_text(f'[[model]]\nreference = "tuneline/tiny-code@001"\nuri = "{folder}"\nmax_sequence_length = 32\n')
    return str(path)


def test_a_good_file_is_ok(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "train.jsonl", [GOOD] * 3)
    assert cli.main(["validate", file]) == 0
    assert capsys.readouterr().out == f"{file}: 3 examples (input-output), 0 problems\n"


def test_all_problems_of_all_files_are_printed_with_their_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = write(tmp_path / "a.jsonl", [GOOD, {"input_text": "q", "output_text": None}, {"input_text": "q"}])
    second = write(tmp_path / "b.jsonl", [[]])
    assert cli.main(["validate", first, second]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{first}:2: /output_text: 'output_text' is null; expected a text. [null-value]"
    assert lines[1].startswith(f"{first}:3: 'output_text' is missing")
    assert lines[2] == f"{first}: 3 examples (input-output), 2 problems"
    assert lines[3].startswith(f"{second}:1: the line is a list")
    assert len(lines) == 5


def test_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "train.jsonl", [GOOD, {"input_text": "q", "output_text": ""}])
    assert cli.main(["validate", "--json", file, str(tmp_path / "nothing.jsonl")]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["ok"], answer["examples"]) == (False, 2)
    assert [(error["file"], error["line"], error["pointer"], error["rule"]) for error in answer["errors"]] == [
        (file, 2, "/output_text", "empty-content"),
        (str(tmp_path / "nothing.jsonl"), 0, "", "unreadable-file"),
    ]
    assert answer["counts"] == {"empty-content": 1, "unreadable-file": 1}
    assert cli.main(["validate", "--json", write(tmp_path / "good.jsonl", [GOOD])]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "examples": 1, "errors": [], "counts": {}}


def test_a_hosted_reference_brings_its_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "train.jsonl", [GOOD] * 9)
    assert cli.main(["validate", file, "--large-model-reference", "code-bison@002"]) == 1
    assert "[too-few-examples]" in capsys.readouterr().out
    assert cli.main(["validate", write(tmp_path / "eval.jsonl", [GOOD] * 251), "--role", "evaluation", "--large-model-reference", "code-bison@002"]) == 1
    assert "[too-many-examples]" in capsys.readouterr().out


def test_a_reference_whose_model_is_here_has_lengths_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str], catalog: str) -> None:
    file = write(tmp_path / "train.jsonl", [GOOD, {"input_text": "q", "output_text": "x" * 100}])
    arguments = ["validate", file, "--large-model-reference", "tuneline/tiny-code@001", "--catalog", catalog]
    assert cli.main(arguments) == 1
    first, _ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{file}:2: 108 tokens; this base model reads at most 32.")
    assert cli.main(["validate", write(tmp_path / "short.jsonl", [GOOD]), *arguments[2:], "--default-context", "word " * 40]) == 1
    assert "[too-long]" in capsys.readouterr().out


def test_a_reference_whose_model_is_elsewhere_is_checked_without_lengths_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    file = write(tmp_path / "train.jsonl", [GOOD] * 10)
    assert cli.main(["validate", file, "--large-model-reference", "qwen/qwen3@qwen3-4b"]) == 0
    assert "lengths are not checked" in capsys.readouterr().err


def test_an_unknown_reference_or_flag_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "train.jsonl", [GOOD])
    assert cli.main(["validate", file, "--large-model-reference", "code-bisno@002"]) == 1
    assert "Did you mean" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        cli.main(["validate", file, "--rol", "train"])
