"""Checkpoints at the output URI: whole, laid out as on Vertex, never another job's; and the process that brings them there."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.api.tuning_bench import MOMENTS, make_checkpoints
from tuneline.api import job_process
from tuneline.api.checkpoint_export import export_checkpoints
from tuneline.errors import DatasetError, InfrastructureError
from tuneline.local import engine
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import Artifact, RunRecord, RunState, TaskRecord, TaskState, Values
from tuneline.modeling.checkpoints import verify
from tuneline.registry.files import write_json
from tuneline.storage import Storage, local_filesystem

LAYOUT = "postprocess/node-0/checkpoints"
FILES = ["COMMIT.json", "config.json", "model.safetensors"]


def run_with_checkpoints(folder: Path, *steps: int) -> RunRecord:
    make_checkpoints(folder, *steps)
    outputs = Values(artifacts={"checkpoints": Artifact(uri=str(folder), schema_title="system.Artifact", metadata={})})
    task = TaskRecord(name="tune-model", create_time=MOMENTS[0], state=TaskState.SUCCEEDED, outputs=outputs)
    return RunRecord(name="x", pipeline="p", template="t", parameters={}, create_time=MOMENTS[0], state=RunState.SUCCEEDED, tasks={"tune-model": task})


@pytest.fixture
def record(tmp_path: Path) -> RunRecord:
    return run_with_checkpoints(tmp_path / "artifact", 3, 6)


def names(folder: Path) -> dict[str, list[str]]:
    return {path.name: sorted(file.name for file in path.iterdir()) for path in sorted((folder / LAYOUT).iterdir())}


def test_all_checkpoints_arrive_without_what_only_training_reads(tmp_path: Path, record: RunRecord) -> None:
    export_checkpoints(record, str(tmp_path / "out"))
    assert names(tmp_path / "out") == {"checkpoint-3": FILES, "checkpoint-6": FILES, "final": FILES}
    for path in (tmp_path / "out" / LAYOUT).iterdir():
        verify(path)
    assert (tmp_path / "out" / LAYOUT / "final/model.safetensors").read_text() == "weights of checkpoint-6"


def test_only_the_last_one_arrives_when_only_that_is_wanted(tmp_path: Path, record: RunRecord) -> None:
    export_checkpoints(record, str(tmp_path / "out"), only_last=True)
    assert names(tmp_path / "out") == {"final": FILES}


@pytest.fixture
def bucket() -> Iterator[Storage]:
    filesystem = MemoryFileSystem()
    yield Storage({"file": local_filesystem, "gs": lambda: filesystem})
    filesystem.store.clear()
    filesystem.pseudo_dirs[:] = [""]


def test_a_bucket_receives_them_as_well(record: RunRecord, bucket: Storage) -> None:
    export_checkpoints(record, "gs://b/out/", storage=bucket)
    assert bucket.list("gs://b/out") == sorted(f"{LAYOUT}/{folder}/{file}" for folder in ("checkpoint-3", "checkpoint-6", "final") for file in FILES)


class FailingStorage(Storage):
    """Copies so many files and then fails, as when the process is killed."""

    def __init__(self, copies: int) -> None:
        super().__init__()
        object.__setattr__(self, "left", copies)
        object.__setattr__(self, "copied", [])

    def copy(self, source: str, destination: str) -> None:
        if not self.left:  # type: ignore[attr-defined]
            raise InfrastructureError("killed")
        object.__setattr__(self, "left", self.left - 1)  # type: ignore[attr-defined]
        self.copied.append(destination)  # type: ignore[attr-defined]
        super().copy(source, destination)


@pytest.mark.parametrize("copies", range(9))
def test_an_export_that_was_cut_off_is_finished_by_the_next(tmp_path: Path, record: RunRecord, copies: int) -> None:
    out = tmp_path / "out"
    with pytest.raises(InfrastructureError, match="killed"):
        export_checkpoints(record, str(out), storage=FailingStorage(copies))
    assert not (out / LAYOUT / "final/COMMIT.json").exists()
    storage = FailingStorage(100)
    export_checkpoints(record, str(out), storage=storage)
    assert names(out) == {"checkpoint-3": FILES, "checkpoint-6": FILES, "final": FILES}
    assert len(storage.copied) == 9 - copies // 3 * 3  # type: ignore[attr-defined]  # what was whole is left alone
    again = FailingStorage(0)
    export_checkpoints(record, str(out), storage=again)


def test_another_jobs_model_is_never_overwritten(tmp_path: Path, record: RunRecord) -> None:
    other = run_with_checkpoints(tmp_path / "other", 5)
    export_checkpoints(other, str(tmp_path / "out"))
    before = names(tmp_path / "out")
    with pytest.raises(DatasetError, match="final holds another job's model"):
        export_checkpoints(record, str(tmp_path / "out"))
    assert names(tmp_path / "out") == before


@pytest.fixture
def job(tmp_path: Path, record: RunRecord, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A job whose run has ended well, and the arguments of its process."""

    def run(*_: object, runs_dir: Path, name: str, **__: object) -> RunRecord:
        RunFolder.create(runs_dir, name, exact=True).write(record)
        return record

    monkeypatch.setattr(engine, "run", run)
    order = {"id": "x", "template": "tune-large-model", "parameters": {}, "environment": {}, "output_uri": str(tmp_path / "out"), "only_last_checkpoint": True}
    write_json(tmp_path / "jobs/x/job.json", order)
    return [str(tmp_path / "jobs/x"), str(tmp_path / "runs")]


def outcome(tmp_path: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((tmp_path / "jobs/x/outcome.json").read_text())
    return found


def test_a_job_ends_when_its_checkpoints_have_arrived(tmp_path: Path, job: list[str]) -> None:
    assert job_process.main(job) == 0
    assert outcome(tmp_path)["state"] == "SUCCEEDED"
    assert names(tmp_path / "out") == {"final": FILES}


def test_a_job_that_was_killed_while_it_copied_goes_on_copying(tmp_path: Path, job: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(job_process, "export_checkpoints", _killed)
        with pytest.raises(KeyboardInterrupt):
            job_process.main(job)
    assert not (tmp_path / "jobs/x/outcome.json").exists()
    assert job_process.main(job) == 0
    assert outcome(tmp_path)["state"] == "SUCCEEDED"
    assert names(tmp_path / "out") == {"final": FILES}


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_folder_that_was_taken_meanwhile_fails_the_job_with_the_reason(tmp_path: Path, job: list[str]) -> None:
    make_checkpoints(tmp_path / "out", 1)
    assert job_process.main(job) == 0
    assert outcome(tmp_path)["state"] == "FAILED"
    assert "holds another job's model.\nGive each job a folder of its own." in outcome(tmp_path)["problem"]
