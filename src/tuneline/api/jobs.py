"""The queue: how jobs come to run, at most so many at a time, each exactly once, also when the service is killed in between.

A job is a folder `jobs/<id>/job.json` and a process of its own (`tuneline.api.job_process`), which outlives the service. The process holds
the folder's lock, starts the run or goes on with it, and can be started any number of times: whoever comes second ends at once. So
the service needs to remember nothing about processes; after a restart it starts one for every job that has not ended.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from tuneline.errors import NotFoundError
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord
from tuneline.registry.files import read_json, try_lock, write_json
from tuneline.registry.processes import ProcessIdentity
from tuneline.templates import Json

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.3
JOB, PROCESS, CANCEL, OUTCOME, LOCK = "job.json", "process.json", "cancel", "outcome.json", "job.lock"


class JobState(StrEnum):
    """Where a job is. The service's resources have names of their own for these."""

    QUEUED = "QUEUED"
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

    def create(self, job: Job) -> None:
        """Write the order down. The same order again changes nothing."""
        write_json(self.of(job.id) / JOB, asdict(job))

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
        return Look(state=JobState.QUEUED if is_wanted else JobState.CANCELLING, record=record)

    def is_running(self, job_id: str) -> bool:
        """Whether a process has the job."""
        lock = try_lock(self.of(job_id) / LOCK)
        if lock is None:
            return True
        lock.close()
        return False

    def cancel(self, job_id: str) -> None:
        """Ask the job to end. Its process looks for the mark before it starts anything, and is told by SIGTERM after that."""
        (self.of(job_id) / CANCEL).touch()
        process = read_json(self.of(job_id) / PROCESS)
        if process is not None and (identity := ProcessIdentity(**process)).is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(identity.pid, signal.SIGTERM)

    def record(self, job_id: str) -> RunRecord | None:
        """What the run has written down, once it has begun."""
        folder = RunFolder(self.runs_dir / job_id)
        return folder.read() if (folder.path / "run.json").exists() else None


class Runner:
    """Starts queued jobs in the order they came, at most `max_running` at once, and tells when one has changed."""

    def __init__(self, jobs: JobFolders, *, max_running: int, waiting: Callable[[], list[str]], changed: Callable[[str, Look], None]) -> None:
        self.jobs, self.max_running = jobs, max_running
        self._waiting, self._changed = waiting, changed
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._wake, self._is_open = threading.Event(), True
        self._thread = threading.Thread(target=self._work, name="job runner", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There may be something to do."""
        self._wake.set()

    def close(self) -> None:
        """Stop looking; the jobs' processes go on."""
        self._is_open = False
        self._wake.set()
        self._thread.join()

    def _work(self) -> None:
        while self._is_open:
            try:
                self.advance()
            except Exception:  # one odd job must not stop all others for ever
                LOG.exception("the job queue stumbled; it goes on")
            self._wake.wait(POLL_SECONDS)
            self._wake.clear()

    def advance(self) -> None:
        """Look at every job that has not ended, oldest first, and start what may start."""
        looks = {job_id: self.jobs.look(job_id) for job_id in self._waiting()}
        for job_id, process in list(self._started.items()):
            if process.poll() is not None:
                del self._started[job_id]
        running = {job_id for job_id, look in looks.items() if self.jobs.is_running(job_id) or job_id in self._started}
        for job_id, look in looks.items():
            self._changed(job_id, look)
            may_start = look.state in (JobState.QUEUED, JobState.CANCELLING) and job_id not in running
            if may_start and (len(running) < self.max_running or look.state == JobState.CANCELLING):
                self._start(job_id)
                running.add(job_id)

    def _start(self, job_id: str) -> None:
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
