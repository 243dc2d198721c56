"""When tuning stops before its last step. Pure."""

from collections.abc import Sequence

PATIENCE = 2
"""Evaluations in a row without a new best accuracy. One alone is noise: on 100 evaluation examples the token accuracy moves by some
tenths of a point from one evaluation to the next. Waiting for a third costs another interval of steps that will be thrown away."""


def has_stalled(accuracies: Sequence[float], patience: int = PATIENCE) -> bool:
    """Whether the last `patience` evaluations of the tuned model brought no new best token accuracy.

    Leave the base model's out: a model that is still below its base but rising has not stalled. Any improvement counts, however
    small: with a threshold, slow but steady learning would be cut off.
    """
    return len(accuracies) > patience and max(accuracies[-patience:]) <= max(accuracies[:-patience])
