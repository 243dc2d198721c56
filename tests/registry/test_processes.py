import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tuneline.registry import processes
from tuneline.registry.processes import ProcessIdentity

READY = "print('ready', flush=True); signal.pause()"


def start(program: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", f"import signal; {program}"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    process = start(READY)
    yield process
    process.kill()
    process.communicate()


def identity_of(process: "subprocess.Popen[str]") -> ProcessIdentity:
    identity = ProcessIdentity.of(process.pid)
    assert identity is not None
    return identity


def test_a_process_is_known_by_pid_start_and_command(process: "subprocess.Popen[str]") -> None:
    identity = identity_of(process)
    assert identity.is_alive()
    assert "signal.pause" in identity.command
    assert identity == ProcessIdentity.of(process.pid)


def test_it_ends_when_asked(process: "subprocess.Popen[str]") -> None:
    identity = identity_of(process)
    assert identity.stop(grace_seconds=30)
    assert not identity.is_alive()
    assert process.wait() == -signal.SIGTERM


def test_one_that_does_not_listen_is_killed() -> None:
    process = start(f"signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}")
    assert identity_of(process).stop(grace_seconds=0.1)
    assert process.wait() == -signal.SIGKILL
    process.communicate()


@pytest.mark.parametrize("change", [{"started": "another boot/17"}, {"command": "another program"}])
def test_another_process_with_a_recycled_pid_is_not_touched(process: "subprocess.Popen[str]", change: dict[str, str]) -> None:
    before = ProcessIdentity(**{**vars(identity_of(process)), **change})
    assert not before.is_alive()
    assert not before.stop(grace_seconds=30)
    assert process.poll() is None


def test_one_that_has_ended_is_not_alive_even_before_its_parent_looks(process: "subprocess.Popen[str]") -> None:
    identity = identity_of(process)
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.is_alive()


def test_where_there_is_no_proc_ps_tells_the_same(process: "subprocess.Popen[str]") -> None:
    if not os.path.exists("/bin/ps"):  # noqa: PTH110
        pytest.skip("no ps here")
    started, command = processes._ask_ps(process.pid)
    assert started
    assert "signal.pause" in command
    process.kill()
    process.wait()
    assert processes._ask_ps(process.pid) == ("", "")
