"""A launched job: fetch the inputs, run the step on this disk, copy its outputs while it writes them, tell the launcher how it ended."""

import contextlib
import json
import logging
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from tuneline.errors import InfrastructureError, TunelineError
from tuneline.modeling.checkpoints import STATE
from tuneline.progress import read_progress
from tuneline.staging.job_folder import JobFolder, error_of
from tuneline.staging.mirrors import CommittedFolders, GrowingFiles
from tuneline.staging.plan import Plan
from tuneline.storage import Storage, join

LOG = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 10.0
RESUME_FROM = "TUNELINE_RESUME_FROM"
COMMITTED, GROWING = "output_checkpoints", "output_tensorboard"
"""Outputs that are copied while the step runs; the others are once it has succeeded."""


@dataclass(frozen=True, kw_only=True)
class StagedJob:
    """One machine's part in a job."""

    step: str
    """The task's name, for people."""
    plan: Plan
    command: Sequence[str]
    """What runs the step here."""
    disk: Path
    """An empty folder."""
    folder: JobFolder
    is_first: bool
    """Whether this is the first machine of the job, the only one that writes outputs."""
    resume_from: str = ""
    """URI of checkpoints of an earlier job, for when this one's own output has none."""
    storage: Storage = field(default_factory=Storage)

    def run(self) -> None:
        """Run to the end. Raises what the step raised."""
        if not self.is_first:
            self._run()
            return
        self.folder.clear()
        try:
            self._run()
        except TunelineError as error:
            with _tolerated():
                self.folder.tell_error(self.step, error)
            raise

    def _run(self) -> None:
        for transfer in self.plan.inputs:
            LOG.info("fetching %s", transfer.uri)
            fetch(transfer.uri, transfer.path, self.storage)
        mirrors, environment = list(self._mirrors()), {**os.environ, "TUNELINE_ERROR_FILE": str(self._error), "TUNELINE_PROGRESS_FILE": str(self._progress)}
        environment.pop(RESUME_FROM, None)
        if earlier := self._earlier():
            environment[RESUME_FROM] = str(earlier)
        with child(self.command, environment) as process:
            while (code := _ended(process)) is None:
                with _tolerated():
                    self._copy(mirrors)
            if code != 0:
                with _tolerated():
                    self._copy(mirrors)
                raise self._failure(code)
            self._copy(mirrors)
            if self.is_first:
                self._finish()

    def _copy(self, mirrors: Sequence[CommittedFolders | GrowingFiles]) -> None:
        """One look at what the step has written."""
        for mirror in mirrors:
            mirror.update()
        if self.is_first and (progress := read_progress(self._progress)):
            self.folder.tell_progress(progress)

    @property
    def _error(self) -> Path:
        return self.disk / "error.json"

    @property
    def _progress(self) -> Path:
        return self.disk / "progress.json"

    def _mirrors(self) -> Iterator[CommittedFolders | GrowingFiles]:
        """Of the outputs that are copied while the step runs. What an earlier attempt has left is fetched first."""
        outputs = {transfer.name: transfer for transfer in self.plan.outputs} if self.is_first else {}
        if COMMITTED in outputs:
            folders = CommittedFolders(outputs[COMMITTED].path, outputs[COMMITTED].uri, self.storage, self.disk / "held")
            folders.fetch()
            yield folders
        if GROWING in outputs:
            yield GrowingFiles(outputs[GROWING].path, outputs[GROWING].uri, self.storage)

    def _earlier(self) -> Path | None:
        """Checkpoints of an earlier job, brought here unless this job has some of its own."""
        if not self.is_first or not self.resume_from or any(transfer.path.exists() for transfer in self.plan.outputs if transfer.name == COMMITTED):
            return None
        CommittedFolders(self.disk / "earlier", self.resume_from, self.storage, self.disk / "held").fetch()
        return self.disk / "earlier"

    def _finish(self) -> None:
        """The other outputs, and last what the step says of them: its being there means success."""
        for transfer in self.plan.outputs:
            if transfer.name not in (COMMITTED, GROWING):
                self.storage.copy(str(transfer.path), transfer.uri)
        self.folder.tell_executor_output(self.plan.executor_output.read_text(encoding="utf-8"))

    def _failure(self, code: int) -> TunelineError:
        """What the step has told, or what is known without that."""
        with contextlib.suppress(FileNotFoundError):
            return error_of(json.loads(self._error.read_text(encoding="utf-8")))
        if code < 0:
            hint = "Often the machine ran out of memory: take a smaller batch_size or model, or a larger machine." if code == -signal.SIGKILL else ""
            return InfrastructureError(f"{self.step} was ended by {signal.Signals(-code).name}.", next_action=hint)
        return InfrastructureError(f"{self.step} ended with exit code {code} and told no reason.", next_action="Read the job's log.")


def fetch(uri: str, path: Path, storage: Storage) -> None:
    """Bring a file or folder here, without training state: most of a checkpoint's bytes, and nothing to a step that only reads models."""
    if not storage.is_folder(uri):
        storage.copy(uri, str(path))
        return
    for name in storage.list(uri):
        if Path(name).name not in STATE:
            storage.copy(join(uri, name), str(path / name))


@contextlib.contextmanager
def child(command: Sequence[str], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The step as a process of its own. SIGTERM and Ctrl-C of this process are its to obey; this one stays, to copy what it saves."""
    asked: list[int] = []
    started: list[subprocess.Popen[bytes]] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        for process in started:
            process.send_signal(number)

    handlers = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with subprocess.Popen(command, env=dict(environment)) as process:
            started.append(process)
            for number in asked:
                process.send_signal(number)
            try:
                yield process
            finally:
                process.kill()  # does nothing to one that has ended
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """The exit code, negative for a signal; nothing when it still runs after a while."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(SECONDS_BETWEEN_LOOKS)
    return None


@contextlib.contextmanager
def _tolerated() -> Iterator[None]:
    """A copy that fails is made at the next look; the step goes on."""
    try:
        yield
    except (TunelineError, OSError) as error:  # the step deletes files while they are looked at
        LOG.warning("copying to Cloud Storage failed: %s", error)
