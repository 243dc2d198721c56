"""Runs one task's command and sees to it that nothing of the task outlives the task, or the engine.

A process of its own between the engine and the command, started by `tuneline.local.process`; it imports the standard library only, so that
it starts in milliseconds. It is the reaper of all that the command starts (Linux), so it finds processes that left the command's session,
too. Standard input is its lifeline: the first line is the order (JSON), later lines are `stop SECONDS` and `kill`, and the end of the
stream means that the engine is gone. It exits when the whole tree is dead, and leaves the command's exit code (negative for a signal) in a file.

An order with `cleanup` is about a container: the command only stands for it. Then signals go to that one process, which hands SIGTERM on,
and the cleanup commands end the container, whatever the command has come to.
"""

import contextlib
import ctypes
import json
import os
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

CANNOT_START = 127
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_SCAN_SECONDS = 0.01
_CLEANUP_SECONDS = 60.0
_LATE_SECONDS = 1.0
"""After the command was killed, the engine may still be making the container that it was asked for."""
_HELPER_SECONDS = 5.0
"""For the container engine's own helpers, to write down that the container has ended."""


class Lifeline:
    """The engine's orders, read without a buffer so that `select` sees what is left."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.open = True
        self._rest = b""

    def first(self) -> bytes:
        """The first line, or nothing when the engine ended before it was written."""
        while self.open and b"\n" not in self._rest:
            self._receive()
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def lines(self) -> list[list[str]]:
        """Further orders, as words, once the descriptor is readable."""
        self._receive()
        *lines, self._rest = self._rest.split(b"\n")
        return [line.decode().split() for line in lines]

    def _receive(self) -> None:
        data = os.read(self.descriptor, 1 << 16)
        self.open = bool(data)
        self._rest += data


class Tree:
    """The command and everything that it started."""

    def __init__(self, command: list[str], folder: str, log: int) -> None:
        self.exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_linux_call(_PR_SET_PDEATHSIG, signal.SIGKILL),  # safe: this process has one thread
            )
        except OSError as error:
            os.write(log, f"cannot start {command[0]!r}: {error.strerror}\n".encode())
            self.exit_code = CANNOT_START

    def reap(self) -> bool:
        """Collect what has ended; whether anything is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if self._process is not None and pid == self._process.pid:
                self.exit_code = self._process.returncode = os.waitstatus_to_exitcode(status)

    def signal(self, number: int) -> None:
        """Send a signal, once, to the command's process group and to every descendant that left the group."""
        group = self._process.pid if self._process is not None else -1
        if group > 0:
            _send(os.killpg, group, number)
        for pid in _descendants(os.getpid()):
            if _group_of(pid) != group:
                _send(os.kill, pid, number)

    def signal_command(self, number: int) -> None:
        """Send a signal to the command's own process only: a container engine's helpers must live to end the container."""
        if self._process is not None and self.exit_code is None:
            _send(os.kill, self._process.pid, number)

    def wait(self, seconds: float) -> None:
        """Collect what ends by itself."""
        deadline = time.monotonic() + seconds
        while self.reap() and time.monotonic() < deadline:
            time.sleep(_SCAN_SECONDS)

    def kill(self) -> None:
        """End everything; a process that forks meanwhile is found by the next scan."""
        self.signal(signal.SIGKILL)
        while self.reap():
            time.sleep(_SCAN_SECONDS)
            self.signal(signal.SIGKILL)


def main() -> None:
    """Run the order on standard input to its end."""
    lifeline = Lifeline(0)
    wake = _wake_on_signals()
    _linux_call(_PR_SET_CHILD_SUBREAPER, 1)()
    line = lifeline.first()
    if not line:
        return
    order = json.loads(line)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(log, f"$ {shlex.join(order['command'])}\n".encode())
    tree = Tree(order["command"], order["folder"], log)
    send = tree.signal_command if order["cleanup"] else tree.signal
    deadline = float("inf")
    while tree.exit_code is None:
        left = deadline - time.monotonic()
        readable, _, _ = select.select([wake, *([lifeline.descriptor] if lifeline.open else [])], [], [], None if left == float("inf") else max(0.0, left))
        if wake in readable:
            os.read(wake, 4096)
        for words in lifeline.lines() if lifeline.descriptor in readable else []:
            deadline = time.monotonic() + (float(words[1]) if words[0] == "stop" else 0.0)
            if words[0] == "stop":
                send(signal.SIGTERM)
        tree.reap()
        if tree.exit_code is None and (time.monotonic() >= deadline or not lifeline.open):
            send(signal.SIGKILL)
            deadline = time.monotonic() + _SCAN_SECONDS
    if order["cleanup"]:
        _clean_up(order["cleanup"])
        if tree.exit_code < 0:
            time.sleep(_LATE_SECONDS)
            _clean_up(order["cleanup"])
        tree.wait(_HELPER_SECONDS)
    tree.kill()
    _write(Path(order["exit_file"]), str(tree.exit_code))


def _clean_up(commands: list[list[str]]) -> None:
    for command in commands:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=_CLEANUP_SECONDS, check=False)


def _wake_on_signals() -> int:
    """A descriptor that becomes readable when a child ends. SIGTERM, SIGINT and SIGHUP are the engine's to pass on, not ours to die from."""
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _nothing)  # not SIG_IGN, which the command would inherit
    return read


def _nothing(_signal: int, _frame: FrameType | None) -> None:
    pass


def _linux_call(option: int, value: int) -> Callable[[], None]:
    """`prctl(option, value)`, loaded before a fork needs it; nothing on other systems."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def call() -> None:
        prctl(option, ctypes.c_ulong(value))

    return call


def _descendants(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_bytes().rpartition(b")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found: list[int] = []
    waiting = [root]
    while waiting:
        waiting += (next_ones := children.get(waiting.pop(), []))
        found += next_ones
    return found


def _group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _send(send: Callable[[int, int], None], target: int, number: int) -> None:
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):  # it ended meanwhile, or is another user's by setuid
        return


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
