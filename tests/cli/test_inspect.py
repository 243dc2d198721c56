import json
import re
from pathlib import Path

import pytest

from tests.data.tiny_tokenizer import write_model
from tuneline import cli


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """A file of two lines and a catalogue with the tiny model of the tests."""
    folder = write_model(tmp_path / "model")
    (tmp_path / "catalog.toml").write_text(f'[[model]]\nreference = "tuneline/tiny-code@001"\nuri = "{folder}"\nmax_sequence_length = 32\n')
    rows = [{"prompt": "q", "completion": "a"}, {"prompt": "say <|user|>", "completion": "return \x1b[31m é😀"}, {"prompt": "q"}]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["inspect", str(tmp_path / "train.jsonl"), "--catalog", str(tmp_path / "catalog.toml")]


def test_learned_tokens_stand_in_marks_without_colours(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    head, _, text = capsys.readouterr().out.partition("\n\n")
    assert text == "<|begin_of_text|><|user|>\nq<|end_of_turn|><|assistant|>\n[+a<|end_of_turn|>+]\n"
    facts = dict(line.split(": ", 1) for line in head.splitlines())
    assert (facts["tokens"], facts["learned_tokens"], facts["line"], facts["format"]) == ("9", "2", "1", "prompt-completion")
    assert facts["characters"] == str(len("<|begin_of_text|><|user|>\nq<|end_of_turn|><|assistant|>\na<|end_of_turn|>"))


def test_colours_show_what_is_learned(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--color", "always"]) == 0
    text = capsys.readouterr().out.partition("\n\n")[2]
    green = "".join(re.findall(r"\x1b\[(?:32|92)m(.*?)\x1b\[0m", text, re.DOTALL))
    assert green == "a<|end_of_turn|>"


def test_no_color_is_respected(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert cli.main(arguments) == 0
    assert "\x1b[" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(arguments) == 0
    assert "\x1b[" not in capsys.readouterr().out


def test_the_data_cannot_send_commands_to_the_terminal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--line", "2"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "return \\x1b[31m é😀" in out


def test_json_holds_every_token(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--line", "2", "--json", "--default-context", "be brief"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "".join(token["text"] for token in answer["token_list"]).startswith(
        "<|begin_of_text|><|system|>\nbe brief<|end_of_turn|><|user|>\nsay <|user|><|end"
    )
    assert sum(token["learned"] for token in answer["token_list"]) == answer["learned_tokens"]
    assert answer["fits"] == (answer["tokens"] <= 32)
    assert [token["id"] for token in answer["token_list"]].count(4) == 1


def test_a_bad_line_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*arguments, "--line", "3"]) == 1
    assert "train.jsonl:3: 'completion' is missing" in capsys.readouterr().err
    for line in ("4", "0", "-1"):
        assert cli.main([*arguments, "--line", line]) == 1
        assert "has no line" in capsys.readouterr().err


def test_an_unlocated_model_is_explained(arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    assert cli.main([*arguments, "--large-model-reference", "qwen/qwen3@qwen3-4b"]) == 1
    assert "is not on this machine" in capsys.readouterr().err
