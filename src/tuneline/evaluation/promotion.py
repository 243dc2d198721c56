"""Whether the tuned model takes the champion's place: a decision on what was measured, and its reason."""

import logging
from dataclasses import dataclass

from tuneline.evaluation.results import Evaluation, Measured
from tuneline.evaluation.selection import WORDS, SelectionMetric, written
from tuneline.parameters import SelectCheckpoint

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What the tuned model has to reach."""

    metric: SelectionMetric
    margin: float
    """By how much `metric` has to be better, in its own unit; better by exactly so much is not enough."""
    max_general_loss_increase: float
    """Largest rise of the loss on the general examples, as a share of the champion's."""


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """The decision and the reason, a sentence for people."""

    is_promoted: bool
    reason: str


def promotion_of(evaluation: Evaluation, parameters: SelectCheckpoint) -> Promotion | None:
    """What becomes of the champion by a job's parameters; nothing when they ask for no gate."""
    if not parameters.champion_gate:
        return None
    gate = Gate(metric=parameters.selection_metric, margin=parameters.champion_margin, max_general_loss_increase=parameters.max_general_loss_increase)
    promotion = decide(evaluation.selected, evaluation.champion, gate)
    LOG.info("champion promoted=%s reason=%r", promotion.is_promoted, promotion.reason)
    return promotion


def decide(tuned: Measured, champion: Measured | None, gate: Gate) -> Promotion:
    """Promoted when the metric is better than the champion's by more than the margin and the model has not forgotten; the first model always is.

    What cannot be compared, because a value is missing or no finite number, is not promoted.
    """
    if champion is None:
        return Promotion(is_promoted=True, reason="There is no champion yet, so this model becomes it.")
    word, ours, theirs = WORDS[gate.metric], tuned.value(gate.metric), champion.value(gate.metric)
    if ours is None or theirs is None:
        whose = "the tuned model" if ours is None else "the champion"
        return Promotion(is_promoted=False, reason=f"Not promoted: {whose} has no finite {word}.")
    gain = theirs - ours if gate.metric == "loss" else ours - theirs
    compared = f"{word} {written(gate.metric, ours)} against the champion's {written(gate.metric, theirs)}"
    if gain <= gate.margin:
        return Promotion(is_promoted=False, reason=f"Not promoted: {compared}; more than {written(gate.metric, gate.margin)} better is asked for.")
    if tuned.general_loss is None and champion.general_loss is None:  # there are no general examples
        return Promotion(is_promoted=True, reason=f"Promoted: {compared}.")
    if tuned.general_loss is None or champion.general_loss is None:
        whose = "the tuned model" if tuned.general_loss is None else "the champion"
        return Promotion(is_promoted=False, reason=f"Not promoted: {whose} has no finite loss on the general examples.")
    bound = champion.general_loss * (1 + gate.max_general_loss_increase)
    forgets = f"loss on the general examples {tuned.general_loss:.4f}, {champion.general_loss:.4f} of the champion"
    if tuned.general_loss > bound:
        return Promotion(is_promoted=False, reason=f"Not promoted: {compared}, but it forgets: {forgets}; at most {bound:.4f} is allowed.")
    return Promotion(is_promoted=True, reason=f"Promoted: {compared}; {forgets}.")
