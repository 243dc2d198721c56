"""Stopped anywhere and started again, tuning ends with the same bytes."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tuning.workbench import PLAN, Workbench, send_at
from tuneline.errors import Interrupted, ModelError, ParameterError
from tuneline.modeling.checkpoints import STATE, list_checkpoints, newest_resumable, remove_state
from tuneline.tuning.history import History

ROOT = Path(__file__).parents[2]


def curve(history: History) -> tuple[object, ...]:
    return history.train, history.eval, list(history.checkpoints), history.epochs


@pytest.mark.parametrize("step", range(1, PLAN.steps))
def test_sigterm_after_any_step_saves_and_the_next_attempt_ends_bit_equal(step: int, bench: Workbench) -> None:
    uninterrupted = bench.tune("whole")
    with pytest.raises(Interrupted):
        bench.tune("out", at_step=send_at(step))
    saved = newest_resumable(bench.outputs().checkpoints)
    assert saved is not None
    assert saved.step == step
    resumed = bench.tune("out")
    assert bench.weights("out") == bench.weights("whole")
    assert bench.master_weights("out", PLAN.steps) != ""
    assert curve(resumed) == curve(uninterrupted)


def test_an_attempt_in_a_clean_folder_goes_on_from_the_offered_one(bench: Workbench) -> None:
    uninterrupted = bench.tune("whole")
    for attempt, (step, earlier) in enumerate([(2, ""), (3, "attempt-0"), (5, "attempt-1")]):
        with pytest.raises(Interrupted):
            bench.tune(f"attempt-{attempt}", at_step=send_at(step), resume_from=earlier)
    resumed = bench.tune("attempt-3", resume_from="attempt-2")
    assert bench.weights("attempt-3") == bench.weights("whole")
    assert curve(resumed) == curve(uninterrupted)


def test_interruption_before_the_first_step_leaves_nothing_and_harms_nothing(bench: Workbench) -> None:
    with pytest.raises(Interrupted):
        bench.tune("out", at_step=send_at(0))
    assert list_checkpoints(bench.outputs().checkpoints) == []
    bench.tune("out")
    bench.tune("whole")
    assert bench.weights("out") == bench.weights("whole")


def test_ctrl_c_saves_too_and_stays_a_keyboard_interrupt(bench: Workbench) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.tune(at_step=send_at(3, signal.SIGINT))
    saved = newest_resumable(bench.outputs().checkpoints)
    assert saved is not None
    assert saved.step == 3


def test_the_handlers_from_before_are_back_afterwards(bench: Workbench) -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted):
        bench.tune(at_step=send_at(1))
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_finished_tuning_started_again_changes_nothing(bench: Workbench) -> None:
    first = bench.tune()
    weights = bench.weights()
    again = bench.tune()
    assert bench.weights() == weights
    assert curve(again) == curve(first)


def test_an_early_stop_is_still_one_after_a_resume(bench: Workbench) -> None:
    stalling = {"steps": 40, "evaluation_interval": 1, "learning_rate": 1e-9, "early_stopping": True}
    whole = bench.tune("whole", **stalling)
    with pytest.raises(Interrupted):
        bench.tune("out", at_step=send_at(2), **stalling)
    resumed = bench.tune("out", **stalling)
    assert (resumed.steps, resumed.stopped_early) == (whole.steps, whole.stopped_early)


def test_an_offered_attempt_with_other_settings_is_passed_over_with_a_named_warning(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Interrupted):
        bench.tune("old", at_step=send_at(3), learning_rate=1e-4)
    bench.tune("new", resume_from="old")
    bench.tune("whole")
    assert "learning_rate was 0.0001 and is 0.003" in caplog.text
    assert bench.weights("new") == bench.weights("whole")


def test_an_offered_attempt_that_is_damaged_is_passed_over_with_a_warning(bench: Workbench, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Interrupted):
        bench.tune("old", at_step=send_at(3))
    saved = newest_resumable(bench.outputs("old").checkpoints)
    assert saved is not None
    content = bytearray((saved.path / STATE[0]).read_bytes())
    content[-100] ^= 1
    (saved.path / STATE[0]).write_bytes(content)
    bench.tune("new", resume_from="old")
    bench.tune("whole")
    assert "damaged" in caplog.text
    assert bench.weights("new") == bench.weights("whole")


def test_an_offered_folder_without_anything_is_a_fresh_start(bench: Workbench) -> None:
    assert bench.tune("new", resume_from="never-was").steps == PLAN.steps


def test_checkpoints_of_another_tuning_in_the_output_folder_are_refused_with_the_difference(bench: Workbench) -> None:
    bench.tune(steps=2)
    with pytest.raises(ParameterError, match="steps was 2 and is 6"):
        bench.tune()
    bench.training.loss_mask[:] = 1
    with pytest.raises(ParameterError, match="training_data"):
        bench.tune(steps=2)


def test_checkpoints_without_training_state_in_the_output_folder_are_refused(bench: Workbench) -> None:
    bench.tune()
    for checkpoint in list_checkpoints(bench.outputs().checkpoints):
        remove_state(checkpoint)
    with pytest.raises(ModelError, match="without training state"):
        bench.tune()


KILLER = """
import os, signal, sys
from pathlib import Path
from tests.tuning.workbench import Workbench
from tuneline.modeling import checkpoints
from tuneline.tuning import reporting

reporting.SECONDS_BETWEEN_REPORTS = 0.0
commit, commits, place = checkpoints._commit, 0, ""

def pass_by(here):
    if here == place:
        os.kill(os.getpid(), signal.SIGKILL)

def watched_commit(folder, step):
    global commits
    commits += 1
    pass_by(f"before-commit-{commits}")
    commit(folder, step)
    pass_by(f"after-commit-{commits}")

checkpoints._commit = watched_commit
for place in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        Workbench(Path(sys.argv[1])).tune(place, at_step=lambda step: pass_by(f"step-{step}"))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, place
"""
PLACES = ["step-1", "step-3", "step-4", *(f"{when}-commit-{number}" for number in (1, 2, 4) for when in ("before", "after"))]


def test_sigkill_anywhere_and_a_second_attempt_end_bit_equal(bench: Workbench) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLER, str(bench.folder), *PLACES]
    killed = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert killed.returncode == 0, killed.stderr
    uninterrupted = bench.tune("whole")
    assert len(PLACES) == 9
    for place in PLACES:
        assert curve(bench.tune(place)) == curve(uninterrupted), place
        assert bench.weights(place) == bench.weights("whole"), place


def test_training_state_holds_no_pickle_and_no_text_of_the_data(bench: Workbench) -> None:
    bench.tune()
    newest = newest_resumable(bench.outputs().checkpoints)
    assert newest is not None
    assert {path.suffix for path in newest.path.iterdir()} <= {".safetensors", ".json", ".jinja"}
    assert json.loads((newest.path / STATE[1]).read_text()).keys() == {"step", "records", "configuration"}
