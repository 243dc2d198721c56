"""How jobs come to run, at most so many at a time, each exactly once, also when the service is killed in between.

A job that has begun is a folder `jobs/<id>/job.json` and a process of its own (`tuneline.api.job_process`), which outlives the service. The
process holds the folder's lock, starts the run or goes on with it, and can be started any number of times: whoever comes second ends
at once. So the service needs to remember nothing about processes; after a restart it starts one for every job that has begun and not ended.
A job that waits is nothing but its row in the store (`tuneline.api.job_queue`).
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from tuneline.errors import NotFoundError
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, RunState
from tuneline.registry.files import read_json, try_lock, write_json
from tuneline.registry.processes import ProcessIdentity
from tuneline.templates import Json

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.3
JOB, TEMPLATE, PROCESS, CANCEL, TOLD, OUTCOME, LOCK = "job.json", "template.json", "process.json", "cancel", "told.json", "outcome.json", "job.lock"


class JobState(StrEnum):
    """Where a job that has begun is. The service's resources have names of their own for these. `PENDING`: no process has it yet, or any more."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def has_ended(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be run."""

    id: str
    """Name of the run, and of the job's folder."""
    template: str
    """A built-in template's name, or the path of one."""
    parameters: Mapping[str, Json]
    environment: Mapping[str, str] = field(default_factory=dict)
    output_uri: str = ""
    """Folder (gs:// URI or path) that receives the checkpoints when the run has succeeded, or nothing."""
    only_last_checkpoint: bool = False
    """Whether only the last one goes there."""
    max_parallel_tasks: int = 0
    """Zero: the engine's own choice."""

    @classmethod
    def read(cls, folder: Path) -> "Job":
        values = read_json(folder / JOB)
        if values is None:
            raise NotFoundError(f"{folder} has no {JOB}.")
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen of a job at one moment."""

    state: JobState
    record: RunRecord | None = None
    """The run, once it has begun."""
    problem: str = ""
    """Why a job failed before it had a run."""


class JobFolders:
    """The jobs on disk, and what can be told from there."""

    def __init__(self, folder: Path, runs_dir: Path) -> None:
        self.folder, self.runs_dir = folder, runs_dir

    def of(self, job_id: str) -> Path:
        return self.folder / job_id

    def create(self, job_id: str, order: Mapping[str, Any], template: Mapping[str, Any]) -> None:
        """Write the order down, for the job's process. One that is there already stays as it is."""
        folder = self.of(job_id)
        if not (folder / JOB).exists():
            write_json(folder / TEMPLATE, template)
            write_json(folder / JOB, asdict(Job(id=job_id, template=str(folder / TEMPLATE), **order)))

    def look(self, job_id: str) -> Look:
        """The job as it is now."""
        folder = self.of(job_id)
        record = self.record(job_id)
        outcome = read_json(folder / OUTCOME)
        is_wanted = not (folder / CANCEL).exists()
        if outcome is not None:
            return Look(state=JobState(outcome["state"]), record=record, problem=outcome.get("problem", ""))
        if self.is_running(job_id):
            return Look(state=JobState.RUNNING if is_wanted else JobState.CANCELLING, record=record)
        return Look(state=JobState.PENDING if is_wanted else JobState.CANCELLING, record=record)

    def is_running(self, job_id: str) -> bool:
        """Whether a process has the job. Of one that has not begun there is no folder, and to look makes none."""
        if not (self.of(job_id) / LOCK).exists():
            return False
        lock = try_lock(self.of(job_id) / LOCK)
        if lock is None:
            return True
        lock.close()
        return False

    def cancel(self, job_id: str) -> None:
        """Mark the job as not wanted any more. Its process looks for the mark before it starts anything; the runner tells one that has started."""
        write_json(self.of(job_id) / CANCEL, {})

    def interrupt(self, job_id: str) -> None:
        """Send SIGTERM to the job's process, if there is one that has said who it is: once, as a second signal would leave its tasks no time."""
        process = read_json(self.of(job_id) / PROCESS)
        if process is None or process == read_json(self.of(job_id) / TOLD) or not (identity := ProcessIdentity(**process)).is_alive():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(identity.pid, signal.SIGTERM)
        write_json(self.of(job_id) / TOLD, process)

    def give_up(self, job_id: str) -> None:
        """End a cancelled job that no process has."""
        lock = try_lock(self.of(job_id) / LOCK)
        if lock is not None:
            with lock:
                if not (self.of(job_id) / OUTCOME).exists():
                    write_json(self.of(job_id) / OUTCOME, {"state": self.end_of_cancelled(job_id)})

    def end_of_cancelled(self, job_id: str) -> JobState:
        """How a job that is not gone on with ends: as its run did, if nothing was left to do after that."""
        record = self.record(job_id)
        if record is not None and record.state == RunState.FAILED:
            return JobState.FAILED
        is_done = record is not None and record.state == RunState.SUCCEEDED and not Job.read(self.of(job_id)).output_uri
        return JobState.SUCCEEDED if is_done else JobState.CANCELLED

    def record(self, job_id: str) -> RunRecord | None:
        """What the run has written down, once it has begun."""
        folder = RunFolder(self.runs_dir / job_id)
        return folder.read() if (folder.path / "run.json").exists() else None


class Queue(Protocol):
    """What the runner asks of the store, and tells it."""

    def begun(self) -> list[str]:
        """The jobs that may have a process, oldest first."""

    def waiting(self, limit: int) -> list[str]:
        """The next jobs that have none."""

    def begin(self, job_id: str) -> bool:
        """Note that the job is about to have a process, and write its folder; false when it is not wanted any more."""

    def changed(self, job_id: str, look: Look) -> None:
        """The job looks like this."""

    def cancel(self, name: str) -> None:
        """The job of this resource name is not wanted any more."""


class Runner:
    """Starts waiting jobs in the order they came, at most `max_running` at once, and tells when one has changed."""

    def __init__(self, jobs: JobFolders, queue: Queue, *, max_running: int) -> None:
        self.jobs, self.max_running = jobs, max_running
        self._queue = queue
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._wake, self._is_open = threading.Event(), True
        self._thread = threading.Thread(target=self._work, name="job runner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def cancel(self, name: str) -> None:
        """Ask the job of this resource name to end."""
        self._queue.cancel(name)
        self.wake()

    def close(self) -> None:
        """Stop looking; the jobs' processes go on."""
        self._is_open = False
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while self._is_open:
            try:
                self.advance()
            except Exception:  # what is odd now may be gone at the next look
                LOG.exception("the job queue stumbled; it goes on")
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def advance(self) -> None:
        """Look at every job that has begun, and at as many that wait as there is room for, oldest first; start what may start."""
        for job_id, process in list(self._started.items()):
            if process.poll() is not None:
                del self._started[job_id]
        begun = self._queue.begun()
        running = {job_id for job_id in begun if self._has_process(job_id)}
        for job_id in [*begun, *self._queue.waiting(max(0, self.max_running - len(begun)))]:
            try:
                self._advance(job_id, running)
            except Exception:  # one odd job must not stop all others for ever
                LOG.exception("job=%s cannot be looked after; the others are", job_id)

    def _advance(self, job_id: str, running: set[str]) -> None:
        look = self.jobs.look(job_id)
        self._queue.changed(job_id, look)
        if look.state.has_ended:
            self._wake.set()  # there is room for another
        elif job_id not in running and look.state == JobState.CANCELLING:
            self.jobs.give_up(job_id)
            self._wake.set()
        elif look.state == JobState.CANCELLING:
            self.jobs.interrupt(job_id)
        elif job_id not in running and len(running) < self.max_running:
            self._start(job_id)
            running.add(job_id)

    def _has_process(self, job_id: str) -> bool:
        return job_id in self._started or self.jobs.is_running(job_id)

    def _start(self, job_id: str) -> None:
        if not self._queue.begin(job_id):
            return
        folder = self.jobs.of(job_id)
        with (folder / "process.log").open("ab") as log:
            self._started[job_id] = subprocess.Popen(
                [sys.executable, "-m", "tuneline.api.job_process", str(folder), str(self.jobs.runs_dir)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it goes on when the service ends
            )
        LOG.info("started job=%s pid=%d", job_id, self._started[job_id].pid)
