"""The compiled templates on the embedded engine: real data, the embedded base model, a few real training steps."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples/stdlib-code"
TASKS = ["validate-parameters", "transform-dataset", "tune-model", "evaluate-model", "select-checkpoint", "upload-model", "deploy-model"]

pytestmark = pytest.mark.slow


def head(source: Path, out: Path, count: int) -> Path:
    """The first rows of a JSONL file, as a file of their own."""
    out.write_text("".join(source.read_text(encoding="utf-8").splitlines(keepends=True)[:count]), encoding="utf-8")
    return out


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TUNELINE_HOME": str(tmp_path / "home"), "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


def tuneline(environment: dict[str, str], *arguments: str, code: int = 0) -> dict[str, object]:
    """Run the command line and return the object that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "tuneline.cli", *arguments, "--json"], env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == code, done.stderr[-3000:]
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def run_template(environment: dict[str, str], template: str, tmp_path: Path, *more: str, examples: int = 40) -> dict[str, object]:
    folder = EXAMPLES / "chat" if "chat" in template else EXAMPLES
    data = head(folder / "train.jsonl", tmp_path / "train.jsonl", examples)
    return tuneline(
        environment, "run", template, "--runs-dir", str(tmp_path / "runs"), "--dataset-uri", str(data), "--train-steps", "4", "--evaluation-interval", "2",
        "--large-model-reference", "tuneline/tiny-code@001", "--evaluation-num-prompts", "2", "--evaluation-max-tokens", "8", *more,
    )  # fmt: skip


@pytest.mark.parametrize(("template", "folder"), [("tune-large-model", EXAMPLES), ("tune-large-chat-model", EXAMPLES / "chat")])
def test_both_templates_tune_evaluate_select_and_register(template: str, folder: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    evaluation = head(folder / "evaluation.jsonl", tmp_path / "evaluation.jsonl", 10)
    answer = run_template(environment, template, tmp_path, "--evaluation-data-uri", str(evaluation))
    assert answer["state"] == "PIPELINE_STATE_SUCCEEDED"
    metrics = answer["metrics"]
    assert isinstance(metrics, dict)
    assert metrics["tuned"]["loss"] < metrics["base"]["loss"]
    assert {"token_accuracy", "exact_match", "rouge_l", "chrf"} <= metrics["tuned"].keys()
    run = tmp_path / "runs" / str(answer["run"])
    record = json.loads((run / "run.json").read_text())
    assert [task["taskName"] for task in record["taskDetails"]] == TASKS
    assert str(answer["model_resource_name"]).startswith("projects/local/locations/local/models/")
    assert answer["endpoint_resource_name"] == ""
    assert Path(str(answer["report"])).read_text().lower().startswith("<!doctype html>")


def test_a_run_without_evaluation_data_takes_the_last_checkpoint(tmp_path: Path, environment: dict[str, str]) -> None:
    answer = run_template(environment, "tune-large-model", tmp_path)
    assert answer["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert answer["selected_step"] == 4
    assert answer["metrics"] == {"base": {}, "tuned": {}}


def test_the_same_run_again_is_cached_and_new_bytes_tune_again(tmp_path: Path, environment: dict[str, str]) -> None:
    first = run_template(environment, "tune-large-model", tmp_path)
    again = run_template(environment, "tune-large-model", tmp_path)
    states = [task["state"] for task in json.loads((tmp_path / "runs" / str(again["run"]) / "run.json").read_text())["taskDetails"]]
    assert states[1:5] == ["SKIPPED"] * 4
    changed = run_template(environment, "tune-large-model", tmp_path, examples=41)
    states = {task["taskName"]: task["state"] for task in json.loads((tmp_path / "runs" / str(changed["run"]) / "run.json").read_text())["taskDetails"]}
    assert states["transform-dataset"] == states["tune-model"] == "SUCCEEDED"
    assert len({first["model_resource_name"], again["model_resource_name"], changed["model_resource_name"]}) == 3


def test_bad_data_ends_with_exit_code_1_and_names_the_line(tmp_path: Path, environment: dict[str, str]) -> None:
    data = head(EXAMPLES / "train.jsonl", tmp_path / "bad.jsonl", 12)
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[6] = '{"input_text": "no output"}\n'
    data.write_text("".join(lines), encoding="utf-8")
    answer = tuneline(
        environment, "run", "tune-large-model", "--runs-dir", str(tmp_path / "runs"), "--dataset-uri", str(data),
        "--large-model-reference", "tuneline/tiny-code@001", code=1,
    )  # fmt: skip
    assert answer["state"] == "PIPELINE_STATE_FAILED"
    error = json.loads((tmp_path / "runs" / str(answer["run"]) / "error.json").read_text())
    assert error["code"] == 1
    assert "bad.jsonl:7" in error["cause"]
