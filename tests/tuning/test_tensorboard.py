from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tuning.workbench import PLAN, Workbench, send_at
from tuneline.errors import Interrupted

TRAIN = ["/train_fraction_of_correct_next_step_preds", "/train_num_predictions", "/train_total_loss"]
EVAL = ["/eval_fraction_of_correct_next_step_preds", "/eval_num_predictions", "/eval_total_loss"]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def steps(series: list[tuple[int, float]]) -> list[int]:
    return [step for step, _ in series]


def test_the_six_metrics_are_written_under_their_exact_names(bench: Workbench) -> None:
    history = bench.tune()
    series = scalars(bench.outputs().tensorboard)
    assert sorted(series) == sorted([*TRAIN, *EVAL])
    assert dict(series["/train_total_loss"]) == pytest.approx({row.step: row.total_loss for row in history.train})
    assert series["/eval_num_predictions"] == [(row.step, row.num_predictions) for row in history.eval]


def test_without_evaluation_data_only_the_train_metrics_exist(bench: Workbench) -> None:
    bench.evaluation = None
    bench.tune()
    assert sorted(scalars(bench.outputs().tensorboard)) == TRAIN


def test_a_reader_sees_the_metrics_while_training_runs(bench: Workbench) -> None:
    seen: dict[int, list[int]] = {}

    def look(step: int) -> None:
        seen[step] = steps(scalars(bench.outputs().tensorboard).get("/eval_total_loss", []))

    bench.tune(at_step=look)
    assert seen[3] == [0, 2]
    assert seen[5] == [0, 2, 4]


@pytest.mark.parametrize("name", ["out", "elsewhere"])
def test_a_resumed_run_shows_every_step_once(name: str, bench: Workbench) -> None:
    with pytest.raises(Interrupted):
        bench.tune("out", at_step=send_at(3))
    bench.tune(name, resume_from="out")
    series = scalars(bench.outputs(name).tensorboard)
    assert steps(series["/train_total_loss"]) == list(range(1, PLAN.steps + 1))
    assert steps(series["/eval_total_loss"]) == [0, 2, 4, 6]
