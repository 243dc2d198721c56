"""The step from files to files; no model is loaded."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tuneline.errors import ModelError
from tuneline.evaluation.results import Evaluation, Measured
from tuneline.modeling.checkpoints import write_checkpoint, write_final
from tuneline.resolution import Limits, Resolved, ResolvedModel
from tuneline.steps.select_checkpoint import main


def write_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"weights")


class Pipeline:
    """The outputs of the tasks before, on disk, and a place for this one's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        checkpoints = [write_checkpoint(folder / "checkpoints", step, write_weights) for step in (20, 40, 60)]
        write_final(folder / "checkpoints", checkpoints[-1])
        model = ResolvedModel(reference="code-bison@002", stands_in="tuneline/tiny-code@001", uri="embedded:x", max_sequence_length=256, learning_rate=1e-3)
        decided = Resolved(
            backend="local", pipeline_region="local", upload_region="local", tuning_region="local", machine_type="", accelerator_type="",
            accelerator_count=0, batch_size=2, base_model=model, limits=Limits(), reasons=(),
        )  # fmt: skip
        (folder / "resolved.json").write_text(decided.to_json(), encoding="utf-8")
        history = {
            "steps": 60, "examples": 6, "batch_size": 2, "epochs": 13.3, "stopped_early": "", "seconds": 1.0, "tokens_per_second": 9.0,
            "learning_rate": 1e-3, "train": [], "eval": [], "checkpoints": [20, 40, 60],
        }  # fmt: skip
        (folder / "history.json").write_text(json.dumps(history), encoding="utf-8")
        (folder / "dataset").mkdir()
        split = {
            "examples": 6, "tokens": 60, "trained_tokens": 30, "longest": 12, "median": 10, "dropped_lines": [], "truncated_lines": [],
            "length_histogram": [[32, 6]],
        }  # fmt: skip
        (folder / "dataset/statistics.json").write_text(json.dumps({"training": split, "evaluation": None}), encoding="utf-8")
        self.write_evaluation(0.5, 0.7, 0.6)

    def write_evaluation(self, *accuracies: float | None) -> None:
        candidates = tuple(
            Measured(step=step) if accuracy is None else Measured(step=step, loss=1.0, token_accuracy=accuracy, num_predictions=30)
            for step, accuracy in zip((20, 40, 60), accuracies, strict=True)
        )
        base = Measured(step=0) if None in accuracies else Measured(step=0, loss=2.0, token_accuracy=0.3, num_predictions=30)
        evaluation = Evaluation(base=base, candidates=candidates, selected_step=40, metric="token_accuracy", generations=())
        evaluation.write(self.folder / "evaluation.json")

    def checkpoint(self, name: str) -> Path:
        return self.folder / "checkpoints/postprocess/node-0/checkpoints" / name

    def run(self, name: str = "our model", **parameters: str) -> dict[str, object]:
        """The content of selected.json."""
        inputs = {
            name: self.folder / f"{name}{suffix}"
            for name, suffix in (("resolved", ".json"), ("dataset", ""), ("checkpoints", ""), ("history", ".json"), ("evaluation", ".json"))
        }
        outputs = {f"output_{name}": self.folder / "out" / name for name in ("selected", "model", "report")}
        values = {"model_display_name": name, **parameters, **inputs, **outputs, "executor_output": self.folder / "out/executor_output.json"}
        main([text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))])
        content: dict[str, object] = json.loads((self.folder / "out/selected").read_text(encoding="utf-8"))
        return content

    def artifact(self, name: str) -> dict[str, object]:
        output = json.loads((self.folder / "out/executor_output.json").read_text(encoding="utf-8"))
        [artifact] = output["artifacts"][name]["artifacts"]
        found: dict[str, object] = artifact
        return found


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    return Pipeline(tmp_path)


def test_the_best_checkpoint_is_the_model_where_it_lies(pipeline: Pipeline) -> None:
    selected = pipeline.run()
    assert (selected["selected_step"], selected["checkpoint"], selected["metric"]) == (40, "checkpoint-40", "token_accuracy")
    assert selected["reason"] == "Highest token accuracy of 3 checkpoints: 70.00%; next is step 60 with 60.00%."
    assert selected["candidates"] == [
        {"step": step, "loss": 1.0, "token_accuracy": accuracy, "num_predictions": 30} for step, accuracy in ((20, 0.5), (40, 0.7), (60, 0.6))
    ]
    assert pipeline.artifact("model")["uri"] == str(pipeline.checkpoint("checkpoint-40"))
    assert not (pipeline.folder / "out/model").exists()


def test_the_model_artifact_says_what_it_is(pipeline: Pipeline) -> None:
    pipeline.run()
    assert pipeline.artifact("model")["metadata"] == {
        "base_model": "tuneline/tiny-code@001", "large_model_reference": "code-bison@002", "max_sequence_length": 256, "metric": "token_accuracy",
        "selected_step": 40, "base_loss": 2.0, "base_token_accuracy": 0.3, "base_num_predictions": 30, "selected_loss": 1.0,
        "selected_token_accuracy": 0.7, "selected_num_predictions": 30,
    }  # fmt: skip


def test_the_last_step_is_final(pipeline: Pipeline) -> None:
    selected = pipeline.run(enable_checkpoint_selection="false")
    assert (selected["selected_step"], selected["checkpoint"]) == (60, "final")
    assert pipeline.artifact("model")["uri"] == str(pipeline.checkpoint("final"))


def test_without_evaluation_data_the_last_is_taken(pipeline: Pipeline) -> None:
    pipeline.write_evaluation(None, None, None)
    selected = pipeline.run(enable_checkpoint_selection="true")
    assert selected["selected_step"] == 60
    assert "no evaluation data" in str(selected["reason"])


def test_the_report_is_a_page_about_this_model(pipeline: Pipeline) -> None:
    pipeline.run(name="<our> model")
    page = (pipeline.folder / "out/report").read_text(encoding="utf-8")
    assert "&lt;our&gt; model" in page
    assert "tuneline/tiny-code@001" in page
    assert pipeline.artifact("report")["uri"] == str(pipeline.folder / "out/report")


def test_a_name_that_is_no_utf_8_still_gets_a_report(pipeline: Pipeline) -> None:
    pipeline.run(name="caf\udce9")
    assert "caf?" in (pipeline.folder / "out/report").read_text(encoding="utf-8")


@pytest.mark.parametrize(("champion", "promoted"), [(None, True), (0.6, True), (0.7, False)])
def test_with_a_gate_it_is_decided_and_told_what_becomes_of_the_champion(pipeline: Pipeline, champion: float | None, promoted: bool) -> None:
    evaluation = Evaluation.read(pipeline.folder / "evaluation.json")
    former = None if champion is None else Measured(step=-1, loss=1.0, token_accuracy=champion, num_predictions=30)
    replace(evaluation, champion=former).write(pipeline.folder / "evaluation.json")
    promotion = pipeline.run(champion_gate="true")["promotion"]
    assert isinstance(promotion, dict)
    assert promotion["is_promoted"] is promoted
    assert promotion["reason"] in (pipeline.folder / "out/report").read_text(encoding="utf-8").replace("&#39;", "'")
    assert pipeline.run()["promotion"] is None


def test_a_damaged_checkpoint_is_refused_when_it_is_the_one_that_was_selected(pipeline: Pipeline) -> None:
    (pipeline.checkpoint("checkpoint-40") / "model.safetensors").write_bytes(b"wEights")
    with pytest.raises(ModelError, match="damaged"):
        pipeline.run()
    assert pipeline.run(enable_checkpoint_selection="false")["selected_step"] == 60


def test_a_selected_checkpoint_that_is_gone_is_named(pipeline: Pipeline) -> None:
    (pipeline.checkpoint("checkpoint-40") / "COMMIT.json").unlink()
    with pytest.raises(ModelError, match="no checkpoint of step 40, which was selected; found those of 20, 60"):
        pipeline.run()


def test_the_step_needs_no_model_library() -> None:
    heavy = ("torch", "transformers", "rouge_score", "sacrebleu", "kfp")
    program = f"import sys, tuneline.steps.select_checkpoint; sys.exit([m for m in {heavy!r} if m in sys.modules] or 0)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
