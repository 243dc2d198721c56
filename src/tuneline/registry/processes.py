"""Processes that outlive their starter: who they are, beyond a pid that the kernel gives to others later, and how they are stopped."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tuneline.errors import InfrastructureError

POLL_SECONDS = 0.05


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """One process for ever: its pid is given to others later, the three together are not."""

    pid: int
    started: str
    command: str

    @classmethod
    def of(cls, pid: int) -> "ProcessIdentity | None":
        """The process that has this pid now, or nothing when there is none that still runs."""
        started, command = _look_up(pid) if Path("/proc/self/stat").exists() else _ask_ps(pid)
        return cls(pid=pid, started=started, command=command) if started else None

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return self.pid > 0 and ProcessIdentity.of(self.pid) == self

    def stop(self, *, grace_seconds: float) -> bool:
        """Ask the process to end, and end it after the grace. Whether it ran at all. Never touches another process with its pid."""
        if not self.is_alive():
            return False
        self._send(signal.SIGTERM)
        if not self.has_ended_within(grace_seconds):
            self._send(signal.SIGKILL)
            self.has_ended_within(grace_seconds)
        return True

    def has_ended_within(self, seconds: float) -> bool:
        """Wait for the end, at most so long."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _send(self, number: signal.Signals) -> None:
        try:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
        except PermissionError:
            raise InfrastructureError(f"process {self.pid} belongs to another user and cannot be stopped.") from None


def _look_up(pid: int) -> tuple[str, str]:
    """Boot and clock tick of the start, and the command; nothing for a process that has ended, also when its parent has not yet noticed."""
    folder = Path("/proc") / str(pid)
    try:
        # The name in parentheses may itself hold spaces and parentheses.
        fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        command = (folder / "cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "", ""
    state, tick = fields[0], fields[19]
    boot = Path("/proc/sys/kernel/random/boot_id")
    return ("", "") if state in "ZX" else (f"{boot.read_text(encoding='utf-8').strip() if boot.exists() else ''}/{tick}", command)


def _ask_ps(pid: int) -> tuple[str, str]:
    """The same where there is no /proc: state, start time (always five words) and command."""
    answer = subprocess.run(["/bin/ps", "-ww", "-o", "state=,lstart=,command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    words = answer.stdout.split(maxsplit=6)
    return ("", "") if len(words) < 7 or words[0].startswith("Z") else (" ".join(words[1:6]), words[6].strip())
