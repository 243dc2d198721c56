"""Where a run keeps its files, and who may work on it.

RUN/run.json  template.yaml  error.json (after a failure)  report.html  *.lock  logs/<task>.log  tasks/<task>/attempt-N/<output>
"""

import contextlib
import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import yaml

from tuneline.errors import InfrastructureError, NotFoundError, UsageError, UserError, did_you_mean
from tuneline.local.run_record import RunRecord, RunState
from tuneline.registry import home
from tuneline.registry.files import read_json, try_lock, write_json
from tuneline.templates import Json

LOG = logging.getLogger(__name__)
_ENGINE_LOCK, _ENGINE_SECONDS = "engine.lock", 0.5  # `tuneline runs` tries it for a moment, to see whether the engine lives
_PROCESSES_LOCK, _PROCESSES_SECONDS = "processes.lock", 5.0  # the processes of a killed engine hold it until they are dead, too
_POLL_SECONDS = 0.05
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def default_runs_dir() -> Path:
    """`runs/` in the folder of everything that outlives a run."""
    return home() / "runs"


@dataclass(frozen=True)
class RunFolder:
    """One run on disk."""

    path: Path

    @classmethod
    def create(cls, runs_dir: Path, name: str, *, exact: bool) -> "RunFolder":
        """A new folder called `name`; when that exists and need not be `exact`, `name-2`, `name-3`, ..."""
        if not _NAME.fullmatch(name):
            raise UsageError(f"run name {name!r} cannot be a folder name; it may hold letters, digits, '.', '-' and '_', up to 128 characters.")
        number = 1
        while True:
            folder = runs_dir / (name if number == 1 else f"{name}-{number}")
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if exact:
                    raise UserError(
                        f"run {name!r} exists already in {runs_dir}.", next_action=f"Choose another --name, or go on with it: tuneline run --resume {name}"
                    ) from None
                number += 1
            else:
                return cls(folder.absolute())

    @classmethod
    def find(cls, run: str, runs_dir: Path) -> "RunFolder":
        """The run with this name in `runs_dir`, or in this folder."""
        for folder in (runs_dir / run, Path(run)):
            if (folder / "run.json").is_file():
                return cls(folder.absolute())
        known = [file.parent.name for file in runs_dir.glob("*/run.json")]
        raise NotFoundError(f"There is no run {run!r} in {runs_dir}.{did_you_mean(run, known)}", next_action="tuneline runs lists the runs.")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def template(self) -> Path:
        return self.path / "template.yaml"

    @property
    def error(self) -> Path:
        return self.path / "error.json"

    def log(self, task: str) -> Path:
        """All attempts' standard output and error."""
        return self.path / "logs" / f"{task}.log"

    def attempts(self, task: str) -> list[Path]:
        """The folders of a task's attempts, oldest first."""
        found = (self.path / "tasks" / task).glob("attempt-*")
        return sorted(found, key=lambda folder: int(folder.name.removeprefix("attempt-")))

    def new_attempt(self, task: str) -> Path:
        """An empty folder for a task's next attempt."""
        earlier = self.attempts(task)
        number = int(earlier[-1].name.removeprefix("attempt-")) + 1 if earlier else 1
        folder = self.path / "tasks" / task / f"attempt-{number}"
        folder.mkdir(parents=True)
        return folder

    def write_template(self, spec: Mapping[str, Json]) -> None:
        """Keep the template as it was compiled, so that the run can go on without its source."""
        dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
        self.template.write_text(yaml.dump(dict(spec), Dumper=dumper, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def write(self, record: RunRecord) -> None:
        """Replace run.json as a whole."""
        write_json(self.path / "run.json", record.to_json())

    def read(self) -> RunRecord:
        """The record; a run whose engine is dead is `PAUSED`."""
        content = read_json(self.path / "run.json")
        if content is None:
            raise NotFoundError(f"{self.path} has no run.json; it is not a run.")
        try:
            record = RunRecord.from_json(content)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise InfrastructureError(f"{self.path / 'run.json'}: {error!r}; it was damaged, or written by another version of Tuneline.") from error
        if record.state == RunState.RUNNING and not self.is_locked():
            record.state = RunState.PAUSED
        return record

    def is_locked(self) -> bool:
        """Whether an engine works on the run."""
        lock = try_lock(self.path / _ENGINE_LOCK)
        if lock is None:
            return True
        lock.close()
        return False

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Be the only engine of the run; gives the descriptor of the lock that the engine's child processes hold, too."""
        with _acquired(self.path / _ENGINE_LOCK, _ENGINE_SECONDS), _acquired(self.path / _PROCESSES_LOCK, _PROCESSES_SECONDS) as lock:
            yield lock.fileno()


@contextlib.contextmanager
def _acquired(path: Path, seconds: float) -> Iterator[BinaryIO]:
    deadline = time.monotonic() + seconds
    while (lock := try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise UserError(f"run {path.parent.name!r} is being worked on by another process.", next_action="Wait for it, or stop it with Ctrl-C or SIGTERM.")
        time.sleep(_POLL_SECONDS)
    with lock:
        yield lock


def list_runs(runs_dir: Path) -> list[tuple[RunFolder, RunRecord]]:
    """The runs of a folder, newest first; one with a damaged record is named in a warning and left out."""
    found = []
    for path in runs_dir.glob("*/run.json"):
        folder = RunFolder(path.parent.absolute())
        try:
            found.append((folder, folder.read()))
        except InfrastructureError as error:
            LOG.warning(error)
    return sorted(found, key=lambda run: run[1].create_time, reverse=True)
