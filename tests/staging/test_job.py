"""A launched job around a small program that stands for the step."""

import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneline.errors import CapacityError, DatasetError, InfrastructureError, Interrupted, TunelineError, UsageError, UserError
from tuneline.progress import Progress
from tuneline.staging import job
from tuneline.staging.job import StagedJob
from tuneline.staging.job_folder import JobFolder, error_of
from tuneline.staging.plan import Plan, plan

FLAGS = {
    "dataset": "gs://b/in/dataset", "checkpoints": "gs://b/in/checkpoints", "output_checkpoints": "gs://b/out/checkpoints",
    "output_tensorboard": "gs://b/out/tensorboard", "output_history": "gs://b/out/history",
}  # fmt: skip
PREAMBLE = """
import json, os, pathlib, signal, sys, time
disk = pathlib.Path(sys.argv[1])
checkpoints, tensorboard = disk / "output_checkpoints", disk / "output_tensorboard"

def checkpoint(name, text):
    folder = checkpoints / name
    folder.mkdir(parents=True)
    (folder / "model").write_text(text)
    (folder / "COMMIT.json").write_text(json.dumps({"step": 1, "files": {"model": {}}, "state": {}}))

def fail(code, attribution, cause):
    error = {"code": code, "attribution": attribution, "step": "s", "cause": cause, "next_action": "do it"}
    pathlib.Path(os.environ["TUNELINE_ERROR_FILE"]).write_text(json.dumps(error))
    sys.exit(code)

def finish():
    (disk / "output_history").write_text("history")
    (disk / "executor_output").write_text(json.dumps({"artifacts": {"history": {"artifacts": [{"name": "history", "uri": "x", "metadata": {"loss": 1}}]}}}))

def wait_for(path):
    while not path.exists():
        time.sleep(0.005)
"""


class Bench:
    """A bucket that is a folder, and the disk of a machine."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bucket = folder, folder / "buckets/b"
        for file, text in {"dataset/train": "data", "checkpoints/c/model": "weights", "checkpoints/c/optimizer.safetensors": "state"}.items():
            (self.bucket / "in" / file).parent.mkdir(parents=True, exist_ok=True)
            (self.bucket / "in" / file).write_text(text)
        self.told = JobFolder(uri="gs://b/out/jobs/1")
        self.disks = 0

    def job(self, program: str, *, is_first: bool = True, resume_from: str = "") -> StagedJob:
        self.disks += 1
        disk = self.folder / f"disk-{self.disks}"
        disk.mkdir()
        planned: Plan = plan(FLAGS, (*FLAGS, "executor_output"), disk)
        file = disk / "program.py"
        file.write_text(PREAMBLE + f"bucket = pathlib.Path({str(self.bucket)!r})\n" + textwrap.dedent(program))
        command = [sys.executable, str(file), str(disk)]
        return StagedJob(step="tune-model", plan=planned, command=command, disk=disk, folder=self.told, is_first=is_first, resume_from=resume_from)

    def text(self, name: str) -> str:
        return (self.bucket / "out" / name).read_text()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    monkeypatch.setattr(job, "SECONDS_BETWEEN_LOOKS", 0.01)
    return Bench(tmp_path)


def test_inputs_come_first_and_outputs_go_while_the_step_runs(bench: Bench) -> None:
    bench.job("""
        assert (disk / "dataset/train").read_text() == "data"
        assert (disk / "checkpoints/c/model").read_text() == "weights"
        assert not (disk / "checkpoints/c/optimizer.safetensors").exists()
        checkpoint("checkpoint-1", "one")
        tensorboard.mkdir()
        (tensorboard / "events").write_text("e")
        pathlib.Path(os.environ["TUNELINE_PROGRESS_FILE"]).write_text(json.dumps({"activity": "tuning", "completed": 1, "total": 2, "message": "m"}))
        wait_for(bucket / "out/checkpoints/checkpoint-1/COMMIT.json")
        wait_for(bucket / "out/tensorboard/events")
        assert not (bucket / "out/history").exists()
        finish()
    """).run()
    assert bench.text("checkpoints/checkpoint-1/model") == "one"
    assert bench.text("history") == "history"
    assert bench.told.metadata() == {"history": {"loss": 1}}
    assert bench.told.progress() == Progress("tuning", 1, 2, "m")
    assert bench.told.error() is None


@pytest.mark.parametrize(
    ("ending", "kind", "text"),
    [
        ('fail(1, "user", "line 1\\nline 2")', UserError, "line 1\nline 2"),
        ('fail(2, "user", "flag")', UsageError, "flag"),
        ('fail(13, "infrastructure", "disk")', InfrastructureError, "disk"),
        ('fail(13, "capacity", "gone")', CapacityError, "gone"),
        ('fail(70, "internal", "bug")', TunelineError, "bug"),
        ('fail(75, "user", "stopped")', Interrupted, "stopped"),
        ("os.kill(os.getpid(), signal.SIGKILL)", InfrastructureError, "tune-model was ended by SIGKILL."),
        ("sys.exit(3)", InfrastructureError, "tune-model ended with exit code 3 and told no reason."),
    ],
)
def test_the_error_of_the_step_is_told_with_its_class_and_text(ending: str, kind: type[TunelineError], text: str, bench: Bench) -> None:
    with pytest.raises(TunelineError) as caught:
        bench.job(f'checkpoint("checkpoint-1", "saved")\n{ending}').run()
    told = bench.told.error()
    assert type(caught.value) is type(told) is kind
    assert str(told) == str(caught.value) == text
    assert told is not None
    assert told.next_action == caught.value.next_action
    assert bench.text("checkpoints/checkpoint-1/model") == "saved"
    assert bench.told.metadata() is None


def test_inputs_that_are_missing_are_told_too(bench: Bench) -> None:
    (bench.bucket / "in/dataset/train").unlink()
    (bench.bucket / "in/dataset").rmdir()
    with pytest.raises(DatasetError):
        bench.job("").run()
    assert isinstance(bench.told.error(), UserError)


def test_the_next_attempt_finds_what_was_copied_and_forgets_the_error(bench: Bench) -> None:
    with pytest.raises(InfrastructureError):
        bench.job('checkpoint("checkpoint-1", "one")\nfail(13, "infrastructure", "disk")').run()
    bench.job("""
        assert (checkpoints / "checkpoint-1/model").read_text() == "one"
        assert "TUNELINE_RESUME_FROM" not in os.environ
        checkpoint("checkpoint-2", "two")
        finish()
    """).run()
    assert bench.told.error() is None
    assert [bench.text(f"checkpoints/checkpoint-{step}/model") for step in (1, 2)] == ["one", "two"]


def test_checkpoints_of_an_earlier_task_are_offered_to_the_step(bench: Bench) -> None:
    with pytest.raises(InfrastructureError):
        bench.job('checkpoint("checkpoint-1", "one")\nfail(13, "infrastructure", "disk")').run()
    (bench.bucket / "out/checkpoints").rename(bench.bucket / "earlier")
    bench.job(
        """
        earlier = pathlib.Path(os.environ["TUNELINE_RESUME_FROM"])
        assert (earlier / "checkpoint-1/model").read_text() == "one"
        assert not checkpoints.exists()
        finish()
        """,
        resume_from="gs://b/earlier",
    ).run()
    assert bench.told.metadata() is not None


def test_sigterm_is_the_steps_to_obey_and_what_it_saves_then_is_copied(bench: Bench) -> None:
    started = bench.folder / "started"
    staged = bench.job(f"""
        def stop(number, frame):
            checkpoint("checkpoint-1", "saved at the end")
            fail(75, "user", "stopped")
        signal.signal(signal.SIGTERM, stop)
        pathlib.Path({str(started)!r}).touch()
        wait_for(bucket / "never")
    """)
    handler = signal.getsignal(signal.SIGTERM)
    with _once(started.exists, lambda: os.kill(os.getpid(), signal.SIGTERM)), pytest.raises(Interrupted, match="stopped"):
        staged.run()
    assert signal.getsignal(signal.SIGTERM) is handler
    assert bench.text("checkpoints/checkpoint-1/model") == "saved at the end"
    assert isinstance(bench.told.error(), Interrupted)


def test_a_machine_that_is_not_the_first_writes_nothing(bench: Bench) -> None:
    bench.job('assert (disk / "dataset/train").exists()\ncheckpoint("checkpoint-1", "mine")\nfinish()', is_first=False).run()
    with pytest.raises(InfrastructureError, match="lost"):
        bench.job('fail(13, "infrastructure", "lost the first")', is_first=False).run()
    assert not (bench.bucket / "out").exists()


def test_a_copy_that_fails_is_made_again_while_the_step_goes_on(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    obstacle = bench.bucket / "out/tensorboard"
    obstacle.parent.mkdir()
    obstacle.write_text("a file where a folder should be")
    staged = bench.job("""
        tensorboard.mkdir()
        (tensorboard / "events").write_text("e")
        wait_for(bucket / "out/tensorboard/events")
        finish()
    """)
    with _once(lambda: "copying to Cloud Storage failed" in caplog.text, obstacle.unlink):
        staged.run()
    assert bench.told.metadata() is not None


def test_an_unknown_attribution_is_nobodys_fault() -> None:
    told = error_of({"code": 70, "attribution": "internal", "step": "s", "cause": "c", "next_action": "n"})
    assert (type(told), told.exit_code) == (TunelineError, 70)


class _once:  # noqa: N801
    """Act in another thread as soon as a condition holds."""

    def __init__(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._watch, args=(condition, action))

    def _watch(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        while not self.end.wait(0.005):
            if condition():
                action()
                return

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join()
