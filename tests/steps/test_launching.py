"""The steps as launchers: the launched job is a real process, which sees nothing but Cloud Storage, here a folder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.launching.fake_vertex import FakeVertex, Machines, MemoryClaims
from tests.modeling.tiny_model import random_dataset, write_base
from tuneline import steps
from tuneline.errors import InfrastructureError, Interrupted, ParameterError
from tuneline.launching import running
from tuneline.launching.on_vertex import CustomJobs
from tuneline.modeling.checkpoints import final_checkpoint, list_checkpoints, newest_resumable, sha256, verify
from tuneline.progress import read_progress
from tuneline.resolution import JobSettings, Limits, Resolved, ResolvedModel
from tuneline.steps import evaluate_model, launching, tune_model

ROOT = Path(__file__).parents[2]
REGION = "europe-west4"
LAYOUT = "checkpoints/postprocess/node-0/checkpoints"


class Bench:
    """A bucket with the inputs of a task, and Vertex with machines."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.buckets = folder, folder / "buckets"
        self.root = self.buckets / "b" / "root"
        base = write_base(folder / "base")
        random_dataset([20, 31, 12, 25]).write(self.root / "dataset" / "train.safetensors")
        random_dataset([15, 22], seed=1).write(self.root / "dataset" / "evaluation.safetensors")
        (self.root / "dataset" / "evaluation_prompts.jsonl").write_text("")
        model = ResolvedModel(reference="r", uri=str(base), max_sequence_length=64, learning_rate=2e-3)
        self.resolved = Resolved(
            backend="vertex", pipeline_region="us-central1", upload_region="us-central1", tuning_region=REGION, machine_type="e2-standard-16",
            accelerator_type="", accelerator_count=0, batch_size=2, launch="custom-job", base_model=model, limits=Limits(), reasons=(),
        )  # fmt: skip
        self.machines = Machines(self.buckets, {"TUNELINE_HOME": str(folder / "home"), "TMPDIR": str(folder)})
        self.vertex = FakeVertex(at_creation=self.machines.start, at_look=self.machines.look)
        self.platform = CustomJobs(project="p", store=MemoryClaims(), region=lambda _region: self.vertex)  # type: ignore[arg-type, return-value]

    def tune(self, out: str, *, resolved: Resolved | None = None, **parameters: object) -> None:
        (self.root / "resolved.json").write_text((resolved or self.resolved).to_json())
        flags = {"train_steps": 4, "evaluation_interval": 2, "enable_early_stopping": False, **parameters}
        paths = {
            "dataset_fingerprint": "f", "tuner_image": "europe-docker.pkg.dev/p/r/tuner-gpu:1", "resolved": self.root / "resolved.json",
            "dataset": self.root / "dataset", "output_checkpoints": self.root / out / "checkpoints",
            "output_tensorboard": self.root / out / "tensorboard", "output_history": self.root / out / "history",
            "output_gcp_resources": self.folder / "pod" / out / "gcp_resources", "executor_output": self.folder / "pod" / out / "executor_output.json",
        }  # fmt: skip
        self._run(launching.launched(tune_model.main, "tune-model", *tune_model.FLAGS, several=True), {**flags, **paths})

    def evaluate(self, tuned: str, out: str, *, resolved: Resolved | None = None) -> None:
        (self.root / "resolved.json").write_text((resolved or self.resolved).to_json())
        paths = {
            "evaluation_num_prompts": 0, "dataset_fingerprint": "f", "tuner_image": "i", "resolved": self.root / "resolved.json",
            "dataset": self.root / "dataset", "checkpoints": self.root / tuned / "checkpoints", "history": self.root / tuned / "history",
            "output_evaluation": self.root / out / "evaluation", "output_gcp_resources": self.folder / "pod" / out / "gcp_resources",
            "executor_output": self.folder / "pod" / out / "executor_output.json",
        }  # fmt: skip
        self._run(launching.launched(evaluate_model.main, "evaluate-model", *evaluate_model.FLAGS, several=False), paths)

    def _run(self, main: launching.Main, values: dict[str, object]) -> None:
        main([text for name, value in values.items() for text in (f"--{name.replace('_', '-')}", str(value))])

    def told(self, out: str) -> dict[str, dict[str, object]]:
        """What the launcher has put out, by artifact."""
        output = json.loads((self.folder / "pod" / out / "executor_output.json").read_text())
        return {name: entry["artifacts"][0] for name, entry in output["artifacts"].items()}

    def weights(self, out: str) -> str:
        final = final_checkpoint(self.root / out / "checkpoints")
        assert final is not None
        verify(final.path)
        return sha256(final.path / "model.safetensors")

    def losses(self, out: str) -> dict[str, list[float]]:
        history = json.loads((self.root / out / "history").read_text())
        return {split: [row["total_loss"] for row in history[split]] for split in ("train", "eval")}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(bench.buckets))
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TUNELINE_PROGRESS_FILE", str(tmp_path / "progress.json"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("TUNELINE_RESUME_FROM", raising=False)
    monkeypatch.setattr(launching, "open_platform", lambda launch: {"custom-job": bench.platform}[launch])
    monkeypatch.setattr(running, "POLL_SECONDS", 0.02)
    yield bench
    bench.machines.close()


def test_a_job_that_is_killed_is_followed_by_one_that_goes_on_and_ends_with_the_bytes_of_the_step_in_place(bench: Bench) -> None:
    plan = {"train_steps": 60, "evaluation_interval": 10}
    bench.tune("in-place", resolved=replace(bench.resolved, launch="in-place"), **plan)
    marker = bench.root / "out" / LAYOUT / "checkpoint-20/COMMIT.json"

    def kill_once(job: dict[str, object]) -> None:
        if len(bench.vertex.jobs) == 1 and marker.exists():
            bench.machines.send(job, signal.SIGKILL)
        bench.machines.look(job)

    bench.vertex.at_look = kill_once
    with pytest.raises(InfrastructureError, match="exited with a non-zero status of -9"):
        bench.tune("out", **plan)
    assert final_checkpoint(bench.root / "out/checkpoints") is None
    bench.tune("out", **plan)
    assert len(bench.vertex.jobs) == 2
    assert "resume_from_step=" in bench.machines.log(bench.vertex.newest)
    assert bench.weights("out") == bench.weights("in-place")
    assert bench.losses("out") == bench.losses("in-place")
    steps = [[checkpoint.step for checkpoint in list_checkpoints(bench.root / out / "checkpoints")] for out in ("out", "in-place")]
    assert steps == [[10, 20, 30, 40, 50, 60]] * 2
    assert len(list((bench.root / "out/tensorboard").iterdir())) == 1

    told, resources = bench.told("out"), json.loads((bench.folder / "pod/out/gcp_resources").read_text())
    assert {name: artifact["uri"] for name, artifact in told.items()} == {name: f"gs://b/root/out/{name}" for name in ("checkpoints", "tensorboard", "history")}
    assert told["history"]["metadata"]["train_total_loss"] == bench.losses("out")["train"][-1]
    uri = f"https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/{REGION}/customJobs/2"
    assert resources == {"resources": [{"resourceType": "CustomJob", "resourceUri": uri}]}
    progress = read_progress(bench.folder / "progress.json")
    assert progress is not None
    assert (progress.completed, progress.total) == (60, 60)


def test_a_stopped_launcher_cancels_its_job_which_saves_its_work(bench: Bench) -> None:
    def stop_both(job: dict[str, object]) -> None:
        if list_checkpoints(bench.root / "out/checkpoints") and not bench.vertex.cancelled:
            os.kill(os.getpid(), signal.SIGTERM)
        bench.machines.look(job)

    bench.vertex.at_look = stop_both
    bench.vertex.at_cancellation = lambda job: bench.machines.send(job, signal.SIGTERM)
    before = signal.signal(signal.SIGTERM, steps._interrupt)
    try:
        with pytest.raises(Interrupted):
            bench.tune("out", train_steps=5000, evaluation_interval=100)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert bench.vertex.cancelled == [bench.vertex.newest["name"]]
    assert bench.machines.wait(bench.vertex.newest) == [75]
    saved = newest_resumable(bench.root / "out/checkpoints")
    assert saved is not None
    assert 0 < saved.step < 5000
    verify(saved.path)


def test_machines_with_several_processes_tune_together_and_one_evaluates(bench: Bench) -> None:
    several = replace(bench.resolved, accelerator_count=2, batch_size=4, job=JobSettings(replica_count=2))
    alone = replace(several, launch="in-place")
    bench.tune("in-place", resolved=alone)
    bench.tune("out", resolved=several)
    assert len(bench.vertex.newest["jobSpec"]["workerPoolSpecs"]) == 2
    assert "world_size=4 met" in bench.machines.log(bench.vertex.newest)
    for split, losses in bench.losses("in-place").items():
        assert bench.losses("out")[split] == pytest.approx(losses, rel=1e-5)

    bench.evaluate("out", "evaluated-in-place", resolved=alone)
    bench.evaluate("out", "evaluated", resolved=several)
    assert len(bench.vertex.newest["jobSpec"]["workerPoolSpecs"]) == 1
    assert (bench.root / "evaluated/evaluation").read_text() == (bench.root / "evaluated-in-place/evaluation").read_text()
    assert bench.told("evaluated") == {"evaluation": {**bench.told("evaluated-in-place")["evaluation"], "uri": "gs://b/root/evaluated/evaluation"}}


def test_what_lies_on_the_tasks_own_disk_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    bench.root = tmp_path / "elsewhere"
    bench.root.mkdir()
    with pytest.raises(ParameterError) as caught:
        bench.tune("out")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "--resolved", "--dataset", "--output-checkpoints", "--output-tensorboard", "--output-history",
    ]  # fmt: skip
    assert "gs://BUCKET/FOLDER" in caught.value.next_action
    assert bench.vertex.jobs == {}


def test_a_launcher_loads_neither_torch_nor_transformers() -> None:
    program = (
        "import sys; from tuneline.launching import platforms; from tuneline.steps import evaluate_model, staged, tune_model\n"
        "sys.exit([name for name in ('torch', 'transformers', 'kubernetes', 'google.cloud.storage', 'requests') if name in sys.modules] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, check=False)
    assert (done.returncode, done.stderr) == (0, "")
