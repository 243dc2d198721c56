"""Ctrl-C, SIGTERM and SIGKILL on an engine that is a process of its own."""

import json
import os
import signal
import time
from pathlib import Path

import pytest

from tests.local.fake_pipelines import Fake, eventually, is_running, parent_of, pid_in, start_engine, states, write
from tuneline.errors import UserError
from tuneline.local import run_folder
from tuneline.local.engine import resume
from tuneline.local.run_record import RunState

WRITE_PID = "def here(name): pathlib.Path(given['place'], name).write_text(f'{os.getpid()}\\n')\n"
SLEEP = "end = time.monotonic() + 120\nwhile time.monotonic() < end: time.sleep(0.05)\n"
INDENTED_SLEEP = "".join(f"    {line}\n" for line in [*SLEEP.splitlines(), "os._exit(0)"])
STUBBORN = (
    WRITE_PID + "import signal\n"
    "for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP): signal.signal(number, signal.SIG_IGN)\n"
    "if os.fork() == 0:\n"
    "    os.fork() and os._exit(0)\n"
    "    os.setsid(); here('far')\n" + INDENTED_SLEEP + "if os.fork() == 0:\n    here('near')\n" + INDENTED_SLEEP + "here('main')\n" + SLEEP
)
"""A task with a child in its own process group and an orphan in another session; all of them ignore every polite signal."""
NAMES = ("main", "near", "far")


def stubborn(tmp_path: Path) -> Path:
    first = Fake(script="open(given['place'] + '/first', 'a').write('x')", takes={"place": str(tmp_path)})
    return write(tmp_path / "p.yaml", {"first": first, "long": Fake(script=STUBBORN, takes={"place": str(tmp_path)}, after=["first"])})


def polite(tmp_path: Path) -> Path:
    """A task that saves when it is asked to stop, and is quick in the second attempt."""
    script = (
        WRITE_PID + "import signal\n"
        "if os.path.exists(given['place'] + '/saved'): open(given['place'] + '/again', 'a').write('x'); sys.exit(0)\n"
        "def save(*_): open(given['place'] + '/saved', 'a').write('x'); sys.exit(75)\n"
        "signal.signal(signal.SIGTERM, save); here('main')\n" + SLEEP
    )
    first = Fake(script="open(given['place'] + '/first', 'a').write('x')", takes={"place": str(tmp_path)})
    return write(tmp_path / "p.yaml", {"first": first, "long": Fake(script=script, takes={"place": str(tmp_path)}, after=["first"])})


def resumed(tmp_path: Path, code: int = 0) -> dict[str, object]:
    engine = start_engine(Path(), tmp_path / "runs", "--resume", "r")
    output, log = engine.communicate(timeout=60)
    assert engine.returncode == code, log
    answer: dict[str, object] = json.loads(output)
    return answer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_run_lets_its_task_save_and_goes_on_later(number: signal.Signals, code: int, tmp_path: Path) -> None:
    engine = start_engine(polite(tmp_path), tmp_path / "runs", "--name", "r")
    pid_in(tmp_path / "main")
    engine.send_signal(number)
    output, _ = engine.communicate(timeout=30)
    assert engine.returncode == code
    assert json.loads(output)["state"] == "PIPELINE_STATE_CANCELLED"
    assert states(tmp_path / "runs/r") == {"first": "SUCCEEDED", "long": "CANCELLED"}
    assert resumed(tmp_path)["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert [(tmp_path / name).read_text() for name in ("first", "saved", "again")] == ["x", "x", "x"]


def test_after_the_grace_the_whole_tree_is_dead_and_the_engine_ends_in_time(tmp_path: Path) -> None:
    engine = start_engine(stubborn(tmp_path), tmp_path / "runs", "--name", "r", "--grace", "0.5")
    pids = [pid_in(tmp_path / name) for name in NAMES]
    start = time.monotonic()
    engine.send_signal(signal.SIGTERM)
    engine.communicate(timeout=30)
    assert time.monotonic() - start < 0.5 + 2
    assert engine.returncode == 75
    assert not [pid for pid in pids if is_running(pid)]


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    engine = start_engine(stubborn(tmp_path), tmp_path / "runs", "--name", "r", "--grace", "300")
    pids = [pid_in(tmp_path / name) for name in NAMES]
    engine.send_signal(signal.SIGINT)
    assert engine.stderr is not None
    assert any("Stopping" in line for line in engine.stderr)
    engine.send_signal(signal.SIGINT)
    engine.communicate(timeout=30)
    assert engine.returncode == 130
    assert not [pid for pid in pids if is_running(pid)]


def test_when_the_engine_is_killed_its_tasks_die_and_the_run_goes_on_later(tmp_path: Path) -> None:
    engine = start_engine(stubborn(tmp_path), tmp_path / "runs", "--name", "r")
    pids = [pid_in(tmp_path / name) for name in NAMES]
    engine.kill()
    engine.communicate(timeout=30)
    eventually(lambda: not [pid for pid in pids if is_running(pid)])
    assert states(tmp_path / "runs/r") == {"first": "SUCCEEDED", "long": "RUNNING"}
    template = tmp_path / "runs/r/template.yaml"
    template.write_text(template.read_text().replace("here('main')", "sys.exit(0)").replace("os.fork() == 0", "False"), encoding="utf-8")
    assert resumed(tmp_path)["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert (tmp_path / "first").read_text() == "x"
    assert states(tmp_path / "runs/r") == {"first": "SUCCEEDED", "long": "SUCCEEDED"}


def test_a_task_that_had_ended_when_the_engine_was_killed_is_not_run_again(tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", {"t": Fake(script="open(given['place'] + '/ran', 'a').write('x')", takes={"place": str(tmp_path)})})
    assert start_engine(file, tmp_path / "runs", "--name", "r").wait(timeout=30) == 0
    record = tmp_path / "runs/r/run.json"
    record.write_text(record.read_text().replace('"SUCCEEDED"', '"RUNNING"').replace("STATE_SUCCEEDED", "STATE_RUNNING"), encoding="utf-8")
    assert resumed(tmp_path)["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert (tmp_path / "ran").read_text() == "x"


def test_what_a_task_leaves_running_ends_with_the_task(tmp_path: Path) -> None:
    script = WRITE_PID + "if os.fork() == 0:\n    os.setsid(); here('left')\n" + INDENTED_SLEEP
    script += "while not os.path.exists(given['place'] + '/left'): time.sleep(0.01)\n"
    engine = start_engine(write(tmp_path / "p.yaml", {"t": Fake(script=script, takes={"place": str(tmp_path)})}), tmp_path / "runs", "--name", "r")
    engine.communicate(timeout=60)
    assert engine.returncode == 0
    assert not is_running(int((tmp_path / "left").read_text()))


def test_a_killed_supervisor_takes_its_command_with_it(tmp_path: Path) -> None:
    engine = start_engine(polite(tmp_path), tmp_path / "runs", "--name", "r")
    pid = pid_in(tmp_path / "main")
    os.kill(parent_of(pid), signal.SIGKILL)
    engine.communicate(timeout=30)
    assert engine.returncode == 13
    eventually(lambda: not is_running(pid))


def test_a_second_engine_is_refused_while_the_first_works(tmp_path: Path) -> None:
    engine = start_engine(polite(tmp_path), tmp_path / "runs", "--name", "r")
    pid_in(tmp_path / "main")
    second = resumed(tmp_path, code=1)
    assert "being worked on" in str(second["error"])
    assert engine.poll() is None
    engine.send_signal(signal.SIGTERM)
    assert engine.wait(timeout=30) == 75


def test_nobody_goes_on_with_a_run_while_processes_of_a_killed_engine_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = start_engine(polite(tmp_path), tmp_path / "runs", "--name", "r")
    task = pid_in(tmp_path / "main")
    supervisor = parent_of(task)
    os.kill(supervisor, signal.SIGSTOP)
    try:
        engine.kill()
        engine.communicate(timeout=30)
        with monkeypatch.context() as impatient:
            impatient.setattr(run_folder, "_PROCESSES_SECONDS", 0.2)
            with pytest.raises(UserError, match="being worked on"):
                resume(tmp_path / "runs/r")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    eventually(lambda: not is_running(task))
    (tmp_path / "saved").touch()
    assert resume(tmp_path / "runs/r").state == RunState.SUCCEEDED
