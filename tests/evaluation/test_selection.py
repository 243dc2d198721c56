"""Which checkpoint is chosen, for hand-made cases and for any measurements."""

from typing import Literal, get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuneline.evaluation.results import Measured
from tuneline.evaluation.selection import GENERATION_METRICS, SelectionMetric, select
from tuneline.parameters import SelectCheckpoint

Enabled = Literal["default", "true", "false"]
METRICS: tuple[SelectionMetric, ...] = get_args(SelectionMetric)


def measured(step: int, accuracy: float | None, loss: float | None, chrf: float | None = None) -> Measured:
    return Measured(step=step, token_accuracy=accuracy, loss=loss, num_predictions=100, chrf=chrf)


def test_the_metrics_are_those_of_the_parameter() -> None:
    assert get_args(get_type_hints(SelectCheckpoint)["selection_metric"]) == METRICS
    assert set(GENERATION_METRICS) < set(METRICS)


@pytest.mark.parametrize("enabled", ["default", "true"])
def test_highest_token_accuracy_wins(enabled: Enabled) -> None:
    selection = select([measured(20, 0.5, 1.0), measured(40, 0.7, 2.0), measured(60, 0.6, 0.5)], "token_accuracy", enabled)
    assert selection.step == 40
    assert selection.reason == "Highest token accuracy of 3 checkpoints: 70.00%; next is step 60 with 60.00%."


def test_equal_accuracy_is_decided_by_the_lower_loss() -> None:
    selection = select([measured(20, 0.7, 1.0), measured(40, 0.7, 0.9)], "token_accuracy", "default")
    assert selection.step == 40
    assert "its loss is better: 0.9000 against 1.0000" in selection.reason


def test_equal_accuracy_and_loss_are_decided_by_the_earlier_step() -> None:
    selection = select([measured(40, 0.7, 0.9), measured(20, 0.7, 0.9)], "token_accuracy", "default")
    assert selection.step == 20
    assert "the earlier one is taken" in selection.reason


def test_loss_is_better_when_lower() -> None:
    selection = select([measured(20, 0.5, 0.8), measured(40, 0.7, 0.9)], "loss", "default")
    assert selection.step == 20
    assert selection.reason.startswith("Lowest loss")


def test_equal_generation_metric_is_decided_by_token_accuracy_before_loss() -> None:
    assert select([measured(20, 0.6, 0.1, 0.5), measured(40, 0.7, 0.9, 0.5), measured(60, 0.9, 0.9, 0.4)], "chrf", "default").step == 40


def test_selection_that_is_off_takes_the_last() -> None:
    selection = select([measured(20, 0.9, 0.1), measured(40, 0.7, 0.9)], "token_accuracy", "false")
    assert selection.step == 40
    assert "enable_checkpoint_selection is false" in selection.reason


@pytest.mark.parametrize(("enabled", "warns"), [("default", False), ("true", True)])
def test_without_evaluation_data_the_last_is_taken_and_says_so(enabled: Enabled, warns: bool) -> None:
    selection = select([Measured(step=20), Measured(step=40)], "token_accuracy", enabled)
    assert selection.step == 40
    assert "no evaluation data" in selection.reason
    assert ("enable_checkpoint_selection is true" in selection.reason) is warns


def test_a_metric_that_was_not_generated_falls_back_to_the_last_and_names_the_parameter() -> None:
    selection = select([measured(20, 0.9, 0.1), measured(40, 0.7, 0.9)], "chrf", "default")
    assert selection.step == 40
    assert "evaluation_num_prompts" in selection.reason


def test_a_diverged_checkpoint_is_never_chosen_over_a_finite_one() -> None:
    selection = select([measured(20, None, None), measured(40, 0.1, 9.0), measured(60, 0.05, 9.5), measured(80, None, None)], "token_accuracy", "default")
    assert selection.step == 40
    assert "no finite number: 2" in selection.reason


def test_one_candidate_is_chosen_with_a_reason() -> None:
    assert select([measured(20, 0.5, 1.0)], "token_accuracy", "default").reason == "The only checkpoint: token accuracy 50.00%."
    others = [measured(20, 0.5, 1.0), measured(40, None, None)]
    assert select(others, "token_accuracy", "default").reason == "The only one whose metric is finite: token accuracy 50.00%."


def test_all_diverged_takes_the_last() -> None:
    selection = select([measured(20, None, None), measured(40, None, None)], "loss", "default")
    assert selection.step == 40
    assert "no checkpoint has a finite loss" in selection.reason


# Few values, so that ties are common.
values = st.one_of(st.none(), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
candidate_lists = st.lists(
    st.builds(
        Measured,
        step=st.integers(1, 500),
        loss=values,
        token_accuracy=values,
        num_predictions=st.one_of(st.none(), st.just(10)),
        exact_match=values,
        rouge_l=values,
        chrf=values,
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda candidate: candidate.step,
)


@settings(deadline=None)
@given(candidate_lists, st.sampled_from(METRICS), st.sampled_from(["default", "true", "false"]))
def test_the_choice_is_a_candidate_and_does_not_depend_on_their_order(candidates: list[Measured], metric: SelectionMetric, enabled: Enabled) -> None:
    selection = select(candidates, metric, enabled)
    assert selection.step in {candidate.step for candidate in candidates}
    assert selection.reason.endswith(".")
    assert select(candidates[::-1], metric, enabled) == selection


@settings(deadline=None)
@given(candidate_lists, st.sampled_from(METRICS))
def test_no_candidate_beats_the_choice(candidates: list[Measured], metric: SelectionMetric) -> None:
    choice = select(candidates, metric, "default").step
    best = next(candidate for candidate in candidates if candidate.step == choice)
    finite = [candidate.value(metric) for candidate in candidates if candidate.value(metric) is not None]
    if not finite or not any(candidate.is_scored for candidate in candidates):
        assert choice == max(candidate.step for candidate in candidates)
    else:
        assert best.value(metric) == (min if metric == "loss" else max)(value for value in finite if value is not None)


@settings(deadline=None)
@given(candidate_lists, st.sampled_from(METRICS))
def test_of_equal_candidates_none_is_earlier_than_the_choice(candidates: list[Measured], metric: SelectionMetric) -> None:
    choice = select(candidates, metric, "true")
    best = next(candidate for candidate in candidates if candidate.step == choice.step)
    same = [c.step for c in candidates if (c.value(metric), c.token_accuracy, c.loss) == (best.value(metric), best.token_accuracy, best.loss)]
    if best.value(metric) is not None and any(candidate.is_scored for candidate in candidates):
        assert choice.step == min(same)
