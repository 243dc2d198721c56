"""Retraining on the embedded engine: the same data are left alone, and only a better model takes the champion's place."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.test_end_to_end import EXAMPLES, TASKS, environment, head, tuneline
from tuneline.data.base_model import EMBEDDED_MODELS, FETCHED_FILES
from tuneline.registry import lineage, models
from tuneline.registry.files import hashed_files
from tuneline.registry.models import ModelVersion, Registration
from tuneline.resolution import Resolved

pytestmark = pytest.mark.slow
__all__ = ["environment"]

MODEL = Registration(project="local", location="local", display_name="weekly", pipeline_job_name="earlier")


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run told, and what its first task decided."""

    told: dict[str, object]
    resolved: Resolved
    states: list[tuple[str, str]]


def earlier_champion() -> ModelVersion:
    """The embedded model, as if an earlier run had tuned it."""
    folder = EMBEDDED_MODELS / "tiny-code-001"
    version = models.register(folder, MODEL, hashed_files(folder, FETCHED_FILES))
    lineage.promote(version)
    return version


def shuffle_answers(data: Path) -> None:
    """Give each prompt the answer of another, which teaches nothing."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    answers = [row["output_text"] for row in rows]
    data.write_text("".join(json.dumps({**row, "output_text": answer}) + "\n" for row, answer in zip(rows, answers[5:] + answers[:5], strict=True)))


def test_only_new_data_are_tuned_and_only_better_models_are_promoted(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", environment["TUNELINE_HOME"])
    evaluation = head(EXAMPLES / "evaluation.jsonl", tmp_path / "evaluation.jsonl", 10)
    general = head(EXAMPLES / "evaluation.jsonl", tmp_path / "general.jsonl", 14)
    data = head(EXAMPLES / "train.jsonl", tmp_path / "train.jsonl", 80)

    def run(*more: str) -> Run:
        told = tuneline(
            environment, "run", "tune-large-model", "--runs-dir", str(tmp_path / "runs"), "--model-display-name", "weekly", "--dataset-uri", str(data),
            "--evaluation-data-uri", str(evaluation), "--general-data-uri", str(general), "--champion-gate", "--skip-unchanged",
            "--selection-metric", "loss", "--large-model-reference", "tuneline/tiny-code@001", "--evaluation-num-prompts", "0", *more,
        )  # fmt: skip
        folder = tmp_path / "runs" / str(told["run"])
        tasks = json.loads((folder / "run.json").read_text())["taskDetails"]
        resolved = Resolved.read(folder / "tasks/validate-parameters/attempt-1/resolved")
        return Run(told=told, resolved=resolved, states=[(task["taskName"], task["state"]) for task in tasks])

    first = earlier_champion()
    better = ("--continue-from-champion", "--train-steps", "10")
    promoted = run(*better)
    assert promoted.resolved.base_model.uri == str(first.artifact_folder)
    assert str(promoted.told["promotion"]).startswith("Promoted: loss ")
    assert promoted.told["model_resource_name"] == f"{first.name}@2"
    assert [version.is_champion for version in lineage.versions(MODEL)] == [True, False]

    same = run(*better)
    assert same.told["skipped"] == f"{first.name}@2 was tuned from the same data with the same parameters."
    assert (same.told["state"], same.told["model_resource_name"], same.told["report"]) == ("PIPELINE_STATE_SUCCEEDED", "", "")
    assert same.states == [(name, "SUCCEEDED") for name in TASKS]

    shuffle_answers(data)
    worse = run("--learning-rate", "0.01", "--train-steps", "4")
    assert str(worse.told["promotion"]).startswith("Not promoted: loss ")
    assert (worse.told["skipped"], worse.told["model_resource_name"]) == ("", "")
    assert "did not lead to a better model than the champion" in lineage.unchanged(MODEL, worse.resolved.data_fingerprint)
    assert len(lineage.versions(MODEL)) == 2
