"""The pure parts: plan, schedule, order of examples, early stopping."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneline.parameters import TuneModel
from tuneline.resolution import Limits, Resolved, ResolvedModel
from tuneline.tuning.batches import examples_of_step, shares
from tuneline.tuning.plan import MAX_CHECKPOINTS, TuningPlan
from tuneline.tuning.schedule import rate_share
from tuneline.tuning.stopping import has_stalled

RESOLVED = Resolved(
    backend="local", pipeline_region="local", upload_region="local", tuning_region="local", machine_type="", accelerator_type="", accelerator_count=0,
    batch_size=8, limits=Limits(), reasons=(),
    base_model=ResolvedModel(reference="r", uri="u", max_sequence_length=64, learning_rate=2e-3),
)  # fmt: skip


def plan(steps: int = 300, interval: int = 20) -> TuningPlan:
    return TuningPlan(steps=steps, batch_size=8, learning_rate=1e-3, evaluation_interval=interval, early_stopping=True, seed=0)


@pytest.mark.parametrize(("rate", "multiplier", "expected"), [(-1.0, 1.0, 2e-3), (-1.0, 0.5, 1e-3), (5e-4, 3.0, 5e-4), (0.0, 2.0, 4e-3)])
def test_an_absolute_learning_rate_wins_over_the_scaled_one(rate: float, multiplier: float, expected: float) -> None:
    parameters = TuneModel(learning_rate=rate, learning_rate_multiplier=multiplier)
    assert TuningPlan.from_parameters(parameters, RESOLVED).learning_rate == pytest.approx(expected)


def test_two_hundred_steps_and_an_interval_of_100_evaluate_twice_after_the_base() -> None:
    wanted = plan(200, 100)
    assert [step for step in range(201) if wanted.evaluates_at(step)] == [0, 100, 200]
    assert [step for step in range(201) if wanted.saves_at(step, evaluated=True)] == [100, 200]


def test_the_last_step_is_evaluated_and_saved_even_off_the_interval() -> None:
    assert [step for step in range(51) if plan(50, 20).saves_at(step, evaluated=True)] == [20, 40, 50]


@given(steps=st.integers(1, 5000), interval=st.integers(1, 300))
def test_without_evaluation_at_most_ten_checkpoints_are_made_and_one_at_the_end(steps: int, interval: int) -> None:
    saved = [step for step in range(steps + 1) if plan(steps, interval).saves_at(step, evaluated=False)]
    assert 1 <= len(saved) <= MAX_CHECKPOINTS
    assert saved[-1] == steps


@given(steps=st.integers(1, 2000))
def test_the_rate_rises_once_reaches_its_peak_and_falls_to_a_tenth(steps: int) -> None:
    shares = [rate_share(step, steps) for step in range(steps)]
    peak = shares.index(max(shares))
    assert max(shares) == pytest.approx(1.0)
    assert all(a < b for a, b in itertools.pairwise(shares[: peak + 1]))
    assert all(a > b - 1e-12 for a, b in itertools.pairwise(shares[peak + 1 :]))
    assert all(0 < share <= 1 for share in shares)
    if steps >= 10:
        assert peak < steps / 10
        assert shares[-1] == pytest.approx(0.1)


@settings(max_examples=60)
@given(num_examples=st.integers(1, 40), batch_size=st.integers(1, 50), seed=st.integers(-(2**40), 2**40), epochs=st.integers(1, 4))
def test_every_example_is_used_exactly_once_an_epoch(num_examples: int, batch_size: int, seed: int, epochs: int) -> None:
    steps = -(-epochs * num_examples // batch_size)
    used = [index for step in range(steps) for index in examples_of_step(step, num_examples=num_examples, batch_size=batch_size, seed=seed)]
    assert len(used) == steps * batch_size
    for epoch in range(epochs):
        assert Counter(used[epoch * num_examples : (epoch + 1) * num_examples]) == Counter(range(num_examples))


def test_the_order_depends_on_the_seed_and_changes_between_epochs() -> None:
    first, second = (examples_of_step(step, num_examples=30, batch_size=30, seed=1) for step in (0, 1))
    other = examples_of_step(0, num_examples=30, batch_size=30, seed=2)
    assert first == examples_of_step(0, num_examples=30, batch_size=30, seed=1)
    assert len({tuple(first), tuple(second), tuple(other)}) == 3


def test_the_order_is_the_one_of_all_releases() -> None:
    assert examples_of_step(0, num_examples=10, batch_size=10, seed=0) == [3, 7, 6, 4, 1, 0, 2, 8, 5, 9]


@given(lengths=st.lists(st.integers(1, 4096), max_size=60), size=st.integers(1, 9))
def test_each_example_is_one_ranks_and_no_rank_has_more_than_one_example_too_much(lengths: list[int], size: int) -> None:
    places = shares(lengths, size)
    assert len(places) == size
    assert sorted(place for own in places for place in own) == list(range(len(lengths)))
    tokens = [sum(lengths[place] for place in own) for own in places]
    assert max(tokens) - min(tokens) <= max(lengths, default=0)
    assert shares(lengths, 1) == [list(range(len(lengths)))]


def test_the_longest_example_goes_first() -> None:
    assert shares([3, 9, 4, 2, 1], 2) == [[1, 4], [0, 2, 3]]
    assert shares([5], 3) == [[0], [], []]


@pytest.mark.parametrize(
    ("accuracies", "stalled"),
    [
        ([], False),
        ([0.5], False),
        ([0.5, 0.4], False),
        ([0.5, 0.4, 0.3], True),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.4, 0.51], False),
        ([0.5, 0.51, 0.4], False),
        ([0.1, 0.2, 0.3, 0.4], False),
        ([0.1, 0.4, 0.3, 0.35], True),
        ([0.4, 0.3, 0.41, 0.40], False),
        ([0.4, 0.3, 0.41, 0.40, 0.41], True),
    ],
)
def test_tuning_has_stalled_after_two_evaluations_without_a_new_best(accuracies: list[float], stalled: bool) -> None:
    assert has_stalled(accuracies) is stalled
