"""Retraining on the embedded engine: the first model becomes the champion, the same data are left alone, only a better model takes its place."""

import json
from pathlib import Path

import pytest

from tests.test_end_to_end import EXAMPLES, TASKS, environment, head, tuneline
from tuneline.registry import lineage, models

pytestmark = pytest.mark.slow
__all__ = ["environment"]

STEPS, MANY_STEPS = "4", "10"


def shuffled(source: Path, out: Path) -> Path:
    """The same prompts, each with the answer of another, which teaches nothing."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    answers = [row["output_text"] for row in rows]
    out.write_text("".join(json.dumps({**row, "output_text": answer}) + "\n" for row, answer in zip(rows, answers[5:] + answers[:5], strict=True)))
    return out


def test_only_new_data_are_tuned_and_only_better_models_are_promoted(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", environment["TUNELINE_HOME"])
    evaluation = head(EXAMPLES / "evaluation.jsonl", tmp_path / "evaluation.jsonl", 10)
    general = head(EXAMPLES / "evaluation.jsonl", tmp_path / "general.jsonl", 14)
    data = head(EXAMPLES / "train.jsonl", tmp_path / "train.jsonl", 40)

    def run(*more: str, steps: str = STEPS) -> dict[str, object]:
        return tuneline(
            environment, "run", "tune-large-model", "--runs-dir", str(tmp_path / "runs"), "--model-display-name", "weekly", "--dataset-uri", str(data),
            "--evaluation-data-uri", str(evaluation), "--general-data-uri", str(general), "--champion-gate", "--skip-unchanged", "--train-steps", steps,
            "--selection-metric", "loss", "--large-model-reference", "tuneline/tiny-code@001", "--evaluation-num-prompts", "0", *more,
        )  # fmt: skip

    first = run()
    assert "There is no champion yet" in str(first["promotion"])
    registered = models.get(str(first["model_resource_name"]))
    assert lineage.champion(registered.registration) == registered

    same = run()
    assert same["skipped"] == f"{registered.resource_name} was tuned from the same data with the same parameters."
    assert (same["state"], same["model_resource_name"]) == ("PIPELINE_STATE_SUCCEEDED", "")
    record = json.loads((tmp_path / "runs" / str(same["run"]) / "run.json").read_text())
    assert [(task["taskName"], task["state"]) for task in record["taskDetails"]] == [(name, "SUCCEEDED") for name in TASKS]

    shuffled(EXAMPLES / "train.jsonl", data)
    worse = run("--learning-rate", "0.01", steps=STEPS)
    assert str(worse["promotion"]).startswith("Not promoted: loss ")
    assert (worse["skipped"], worse["model_resource_name"]) == ("", "")
    again = run("--learning-rate", "0.01", steps=STEPS)
    assert "did not lead to a better model than the champion" in str(again["skipped"])

    head(EXAMPLES / "train.jsonl", data, 80)
    better = run("--continue-from-champion", steps=MANY_STEPS)
    assert str(better["promotion"]).startswith("Promoted: loss ")
    promoted = models.get(str(better["model_resource_name"]))
    assert lineage.champion(registered.registration) == promoted
    assert promoted.version == registered.version + 1
