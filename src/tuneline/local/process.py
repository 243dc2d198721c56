"""The engine's side of the task processes: start, wait, stop politely, kill.

Between the engine and each command stands `tuneline.local.supervisor`. It holds the run's lock, too, so that nobody can go on with a run
while processes of an earlier engine are still alive.
"""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_KILLED = -9
_CLEANUP_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Launch:
    """A command, and how to be sure that nothing of it is left."""

    command: Sequence[str]
    environment: Mapping[str, str]
    cleanup: Sequence[Sequence[str]] = ()
    """Commands that end what runs outside the process tree: a container. The command itself then only stands for it, gets every signal
    alone, and hands SIGTERM on."""


class Stopped(Exception):
    """No process is started any more: the engine was asked to stop."""


class TaskProcesses:
    """All processes of one run. Safe to call from several threads."""

    def __init__(self, lock: int) -> None:
        self._lock_descriptor = lock
        self._guard = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopping = threading.Event()

    @property
    def is_stopping(self) -> bool:
        """Whether the engine was asked to stop."""
        return self._stopping.is_set()

    @property
    def is_idle(self) -> bool:
        """Whether no process runs."""
        return not self._running

    def run(self, launch: Launch, *, folder: Path, log: Path, exit_file: Path) -> int:
        """Run a command to its end; the exit code, negative for a signal. `Stopped` when the engine is stopping already."""
        order = {"command": launch.command, "folder": str(folder), "log": str(log), "exit_file": str(exit_file), "cleanup": launch.cleanup}
        with self._guard, log.open("ab") as errors:
            if self._stopping.is_set():
                raise Stopped
            supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("supervisor.py"))],
                env=dict(launch.environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,  # Ctrl-C reaches the engine alone, which passes it on
                pass_fds=(self._lock_descriptor,),
            )
            self._running.add(supervisor)
            _tell(supervisor, json.dumps(order))
        supervisor.wait()
        if not exit_file.exists():  # somebody killed the supervisor
            _clean_up(launch)
        with self._guard:
            self._running.discard(supervisor)
            if supervisor.stdin is not None:
                supervisor.stdin.close()
        return int(exit_file.read_text(encoding="utf-8")) if exit_file.exists() else _KILLED

    def pause(self, seconds: float) -> None:
        """Wait; `Stopped` as soon as the engine is stopping."""
        if self._stopping.wait(seconds):
            raise Stopped

    def stop(self, grace_seconds: float) -> None:
        """Ask every task to end (SIGTERM), and kill it after `grace_seconds`."""
        self._tell_all(f"stop {grace_seconds}")

    def kill(self) -> None:
        """End every task at once."""
        self._tell_all("kill")

    def _tell_all(self, order: str) -> None:
        self._stopping.set()
        with self._guard:
            for supervisor in self._running:
                _tell(supervisor, order)


def _clean_up(launch: Launch) -> None:
    for command in launch.cleanup:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, env=dict(launch.environment), stdin=subprocess.DEVNULL, capture_output=True, timeout=_CLEANUP_SECONDS, check=False)


def _tell(supervisor: subprocess.Popen[bytes], order: str) -> None:
    if supervisor.stdin is not None:
        try:
            supervisor.stdin.write(order.encode() + b"\n")
            supervisor.stdin.flush()
        except BrokenPipeError:  # it ended meanwhile
            return
