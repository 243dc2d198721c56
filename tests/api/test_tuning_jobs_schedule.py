"""Epochs as steps: each example is seen as often as was asked for, and the checkpoints are those that Vertex would make."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.api.resources.tuning_job_schedule import Schedule, schedule
from tuneline.tuning.plan import MAX_CHECKPOINTS, TuningPlan


def checkpoints(planned: Schedule, *, evaluated: bool) -> list[int]:
    """The steps at which training really makes one."""
    plan = TuningPlan(
        steps=planned.steps, batch_size=planned.batch_size, learning_rate=1e-3, evaluation_interval=planned.interval, early_stopping=False, seed=0
    )
    return [step for step in range(planned.steps + 1) if plan.saves_at(step, evaluated=evaluated)]


@pytest.mark.parametrize(
    ("examples", "epochs", "batch_size", "steps", "saved"),
    [
        (240, 2, 24, 20, [10, 20]),
        (100, 3, 8, 38, [13, 26, 38]),
        (3, 1, 8, 1, [1]),
        (1, 4, 8, 4, [1, 2, 3, 4]),
        (9, 5, 8, 9, [2, 4, 6, 8, 9]),
        (16, 10, 8, 20, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20]),
        (8, 15, 8, 15, [2, 4, 6, 8, 10, 12, 14, 15]),
    ],
)
def test_steps_and_checkpoints(examples: int, epochs: int, batch_size: int, steps: int, saved: list[int]) -> None:
    planned = schedule(examples=examples, epochs=epochs, batch_size=batch_size)
    assert planned.steps == steps
    assert checkpoints(planned, evaluated=True) == saved


@given(st.integers(1, 300), st.integers(1, 40), st.integers(1, 64), st.booleans())
def test_every_schedule_keeps_its_promises(examples: int, epochs: int, batch_size: int, evaluated: bool) -> None:
    planned = schedule(examples=examples, epochs=epochs, batch_size=batch_size)
    saved = checkpoints(planned, evaluated=evaluated)
    assert planned.steps * planned.batch_size >= epochs * examples
    # No more than if each epoch ended with a short batch, as most trainers have it.
    assert planned.steps <= epochs * math.ceil(examples / planned.batch_size)
    assert len(saved) == epochs if epochs < MAX_CHECKPOINTS else len(saved) <= MAX_CHECKPOINTS
    assert saved[-1] == planned.steps
    told = [planned.epoch_of(step) for step in saved]
    assert told == sorted(set(told))
    assert told[-1] == epochs
    assert epochs >= MAX_CHECKPOINTS or told == list(range(1, epochs + 1))
