import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.modeling.tiny_model import random_dataset, write_base
from tests.tuning.ranks import StepCall, cluster_spec, free_port, run_processes
from tuneline.errors import InfrastructureError, ParameterError, UsageError
from tuneline.modeling.checkpoints import final_checkpoint, list_checkpoints, newest_resumable, sha256, verify
from tuneline.resolution import Limits, Resolved, ResolvedModel
from tuneline.steps import tune_model

ROOT = Path(__file__).parents[2]


class Task:
    """The inputs of the step, and a folder for each attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base = folder / "base"
        base.mkdir()
        write_base(base)
        model = ResolvedModel(reference="r", uri=str(base), max_sequence_length=64, learning_rate=2e-3)
        resolved = Resolved(
            backend="local", pipeline_region="local", upload_region="local", tuning_region="local", machine_type="", accelerator_type="",
            accelerator_count=0, batch_size=2, base_model=model, limits=Limits(), reasons=(),
        )  # fmt: skip
        (folder / "resolved.json").write_text(resolved.to_json())
        random_dataset([20, 31, 12, 25]).write(folder / "dataset" / "train.safetensors")
        random_dataset([15, 22], seed=1).write(folder / "dataset" / "evaluation.safetensors")

    def argv(self, attempt: str = "1", **more: str) -> list[str]:
        out = self.folder / attempt
        flags = {
            "train-steps": "4.0", "evaluation-interval": "2", "enable-early-stopping": "False", "dataset-fingerprint": "f", "tuner-image": "i",
            "resolved": str(self.folder / "resolved.json"), "dataset": str(self.folder / "dataset"), "output-checkpoints": str(out / "checkpoints"),
            "output-tensorboard": str(out / "tensorboard"), "output-history": str(out / "history"), "output-gcp-resources": str(out / "gcp_resources"),
            "executor-output": str(out / "executor.json"), **more,
        }  # fmt: skip
        return [text for name, value in flags.items() for text in (f"--{name}", value)]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("TUNELINE_RESUME_FROM", raising=False)
    return Task(tmp_path)


def test_it_writes_checkpoints_events_history_and_metadata(task: Task) -> None:
    tune_model.main(task.argv())
    out = task.folder / "1"
    assert [checkpoint.step for checkpoint in list_checkpoints(out / "checkpoints")] == [2, 4]
    final = final_checkpoint(out / "checkpoints")
    assert final is not None
    verify(final.path)
    assert list((out / "tensorboard").glob("events.out.tfevents.*"))
    history = json.loads((out / "history").read_text())
    assert (history["steps"], history["batch_size"], history["learning_rate"]) == (4, 2, 2e-3)
    artifacts = json.loads((out / "executor.json").read_text())["artifacts"]
    assert artifacts.keys() == {"checkpoints", "tensorboard", "history"}
    metadata = artifacts["history"]["artifacts"][0]["metadata"]
    assert metadata["eval_total_loss"] == history["eval"][-1]["total_loss"]


def test_without_evaluation_data_it_still_tunes(task: Task) -> None:
    (task.folder / "dataset" / "evaluation.safetensors").unlink()
    tune_model.main(task.argv())
    assert json.loads((task.folder / "1" / "history").read_text())["eval"] == []


def test_an_unknown_flag_is_refused(task: Task) -> None:
    with pytest.raises(UsageError, match="train-step"):
        tune_model.main([*task.argv(), "--train-stepz", "3"])


def test_an_absolute_learning_rate_reaches_the_plan(task: Task) -> None:
    tune_model.main(task.argv(**{"learning-rate": "0.01"}))
    assert json.loads((task.folder / "1" / "history").read_text())["learning_rate"] == 0.01


@pytest.mark.parametrize(("accelerator_type", "kind"), [("NVIDIA_A100_80GB", InfrastructureError), ("TPU_V3", ParameterError)])
def test_an_accelerator_that_is_not_here_is_named(accelerator_type: str, kind: type[Exception], task: Task) -> None:
    path = task.folder / "resolved.json"
    path.write_text(replace(Resolved.read(path), accelerator_type=accelerator_type).to_json())
    with pytest.raises(kind, match=accelerator_type):
        tune_model.main(task.argv())


def test_sigterm_ends_with_75_and_the_next_attempt_ends_as_if_nothing_had_happened(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    same = {"train-steps": "200", "evaluation-interval": "100"}
    progress = task.folder / "progress.json"
    environment = {
        **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "TUNELINE_PROGRESS_FILE": str(progress),
        "TUNELINE_ERROR_FILE": str(task.folder / "error.json"),
    }  # fmt: skip
    command = [sys.executable, "-m", "tuneline.steps.tune_model", *task.argv(**same)]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "step=1/200" in line:
                process.send_signal(signal.SIGTERM)
                break
        log = process.stderr.read()
    assert process.returncode == 75, log
    assert json.loads((task.folder / "error.json").read_text())["code"] == 75
    stopped = newest_resumable(task.folder / "1" / "checkpoints")
    assert stopped is not None
    assert 0 < stopped.step < 200
    monkeypatch.setenv("TUNELINE_RESUME_FROM", str(task.folder / "1" / "checkpoints"))
    tune_model.main(task.argv("2", **same))
    monkeypatch.delenv("TUNELINE_RESUME_FROM")
    tune_model.main(task.argv("whole", **same))
    digests = []
    for attempt in ("2", "whole"):
        final = final_checkpoint(task.folder / attempt / "checkpoints")
        assert final is not None
        digests.append(sha256(final.path / "model.safetensors"))
    assert digests[0] == digests[1]


def test_two_machines_of_a_vertex_job_reach_the_losses_of_one_and_only_the_first_writes(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    tune_model.main(task.argv("alone"))
    port, calls = free_port(), [StepCall(tuple(task.argv(f"machine-{rank}"))) for rank in (0, 1)]
    given = {"TUNELINE_HOME": str(task.folder / "home"), "TUNELINE_PROGRESS_FILE": str(task.folder / "progress.json")}
    ends = run_processes(task.folder, [({**given, **cluster_spec(rank, 2, port)}, call) for rank, call in enumerate(calls)])
    assert [end.code for end in ends] == [0, 0], ends
    alone, group = (json.loads((task.folder / name / "history").read_text()) for name in ("alone", "machine-0"))
    assert len(alone["train"]) == len(group["train"]) == 4
    for split in ("train", "eval"):
        assert [row["total_loss"] for row in group[split]] == pytest.approx([row["total_loss"] for row in alone[split]], rel=1e-5)
    artifacts = json.loads((task.folder / "machine-0" / "executor.json").read_text())["artifacts"]
    assert artifacts["history"]["artifacts"][0]["metadata"]["eval_total_loss"] == group["eval"][-1]["total_loss"]
    assert not (task.folder / "machine-1").exists()


def test_an_error_is_written_by_the_first_machine_only(task: Task) -> None:
    tune_model.main(task.argv("1", **{"train-steps": "2"}))
    port, call = free_port(), StepCall(tuple(task.argv("1")))
    files = [task.folder / f"error-{rank}.json" for rank in (0, 1)]
    ends = run_processes(task.folder, [({**cluster_spec(rank, 2, port), "TUNELINE_ERROR_FILE": str(files[rank])}, call) for rank in (0, 1)])
    assert [end.code for end in ends] == [1, 1], ends
    assert "another tuning" in json.loads(files[0].read_text())["cause"]
    assert not files[1].exists()
