"""Whether a model becomes the champion: the rules, at their edges, and for any numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuneline.evaluation.promotion import Gate, decide
from tuneline.evaluation.results import Measured
from tuneline.evaluation.selection import SelectionMetric

CHAMPION = Measured(step=-1, loss=2.0, token_accuracy=0.5, num_predictions=9, general_loss=1.0)
numbers = st.floats(min_value=0, max_value=10)


def gate(metric: SelectionMetric = "token_accuracy", margin: float = 0.0, increase: float = 0.1) -> Gate:
    return Gate(metric=metric, margin=margin, max_general_loss_increase=increase)


def tuned(**values: float) -> Measured:
    return Measured(step=7, num_predictions=9, **values)  # type: ignore[arg-type]


def test_the_first_model_becomes_the_champion() -> None:
    assert decide(tuned(loss=9.0), None, gate()).is_promoted


@pytest.mark.parametrize(
    ("values", "rules", "promoted", "told"),
    [
        ({"token_accuracy": 0.6, "general_loss": 1.0}, gate(), True, "Promoted: token accuracy 60.00% against the champion's 50.00%"),
        ({"token_accuracy": 0.5, "general_loss": 1.0}, gate(), False, "more than 0.00% better is asked for"),
        ({"token_accuracy": 0.55, "general_loss": 1.0}, gate(margin=0.0625), False, "more than 6.25% better"),
        ({"token_accuracy": 0.6, "general_loss": 1.1}, gate(), True, "Promoted"),
        (
            {"token_accuracy": 0.9, "general_loss": 1.11},
            gate(),
            False,
            "it forgets: loss on the general examples 1.1100, 1.0000 of the champion; at most 1.1000",
        ),
        ({"token_accuracy": 0.9}, gate(), False, "the tuned model has no finite loss on the general examples"),
        ({"loss": 1.9, "general_loss": 1.0}, gate("loss", margin=0.05), True, "loss 1.9000 against the champion's 2.0000"),
        ({"loss": 2.1, "general_loss": 1.0}, gate("loss"), False, "Not promoted"),
        ({"loss": 1.0, "general_loss": 1.0}, gate("chrf"), False, "the tuned model has no finite chrF"),
    ],
)
def test_a_model_is_promoted_when_it_is_better_and_has_not_forgotten(values: dict[str, float], rules: Gate, promoted: bool, told: str) -> None:
    decision = decide(tuned(**values), CHAMPION, rules)
    assert decision.is_promoted == promoted
    assert told in decision.reason


def test_without_general_examples_only_the_metric_counts() -> None:
    champion = Measured(step=-1, token_accuracy=0.5, num_predictions=9)
    assert decide(tuned(token_accuracy=0.51), champion, gate()).is_promoted


def test_a_champion_whose_loss_on_the_general_examples_is_not_finite_cannot_be_compared() -> None:
    champion = Measured(step=-1, token_accuracy=0.5, num_predictions=9)
    decision = decide(tuned(token_accuracy=0.9, general_loss=1.0), champion, gate())
    assert not decision.is_promoted
    assert "the champion has no finite loss on the general examples" in decision.reason


@given(ours=numbers, theirs=numbers, margin=numbers)
def test_more_margin_never_helps(ours: float, theirs: float, margin: float) -> None:
    champion = Measured(step=-1, loss=theirs, num_predictions=1)
    asked, more = (decide(tuned(loss=ours), champion, gate("loss", margin=value)).is_promoted for value in (margin, margin + 0.5))
    assert asked >= more
    assert asked == (theirs - ours > margin)


@given(ours=st.none() | numbers, theirs=st.none() | numbers)
def test_what_cannot_be_compared_is_not_promoted(ours: float | None, theirs: float | None) -> None:
    decision = decide(Measured(step=1, loss=ours), Measured(step=-1, loss=theirs), gate("loss"))
    assert decision.is_promoted == (ours is not None and theirs is not None and ours < theirs)
