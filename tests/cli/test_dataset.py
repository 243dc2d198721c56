import json
from pathlib import Path

import pytest

from tuneline import cli


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for index in range(30):
        code = f'def f{index}(a):\n    """Multiply by {index} and add one to a."""\n    total = a * {index}\n    return total + 1\n'
        (tmp_path / "repo").mkdir(exist_ok=True)
        (tmp_path / "repo" / f"m{index}.py").write_text(code)
    return tmp_path / "repo"


def test_a_code_base_becomes_two_files(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    assert cli.main(["dataset", "from-code", str(repository), "--out", str(out), "--format", "author-chat", "--evaluation-fraction", "0.3", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    lines = {name: (out / f"{name}.jsonl").read_text().splitlines() for name in ("train", "evaluation")}
    assert (answer["training_examples"], answer["evaluation_examples"]) == (len(lines["train"]), len(lines["evaluation"]))
    assert answer["training_file"] == str(out / "train.jsonl")
    assert sum(map(len, lines.values())) == 30
    assert json.loads(lines["train"][0])["messages"][0]["author"] == "user"


def test_limits_are_passed_on(repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "data"
    assert cli.main(["dataset", "from-code", str(repository), "--out", str(out), "--max-examples", "4", "--evaluation-fraction", "0"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{out / 'train.jsonl'}: 4 examples from 4 modules",
        f"{out / 'evaluation.jsonl'}: 0 examples from 0 modules",
    ]
    assert cli.main(["dataset", "from-code", str(repository), "--out", str(out), "--max-characters", "20"]) == 1
    assert "no function with a docstring" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--max-examples", "0"], ["--max-examples", "x"], ["--evaluation-fraction", "1"], ["--format", "csv"], []])
def test_a_wrong_flag_is_a_usage_error(repository: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["dataset", "from-code", str(repository), *(["--out", "x"] if arguments else []), *arguments])
