"""Which checkpoint becomes the tuned model, and why: a pure decision on measured candidates."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.evaluation.results import Measured

SelectionMetric = Literal["token_accuracy", "loss", "exact_match", "rouge_l", "chrf"]
GENERATION_METRICS: tuple[SelectionMetric, ...] = ("exact_match", "rouge_l", "chrf")
"""Metrics that need generated answers."""

WORDS: dict[SelectionMetric, str] = {
    "token_accuracy": "token accuracy",
    "loss": "loss",
    "exact_match": "exact match",
    "rouge_l": "ROUGE-L",
    "chrf": "chrF",
}


@dataclass(frozen=True)
class Selection:
    """The chosen checkpoint's step and the reason, a sentence for people."""

    step: int
    reason: str

    def to_json(self, *, checkpoint: str, metric: SelectionMetric, candidates: Sequence[Measured], promotion: Mapping[str, object] | None = None) -> str:
        """The content of selected.json; `checkpoint` is the folder's name, `promotion` what became of the champion where there is a gate."""
        content = {
            "selected_step": self.step,
            "checkpoint": checkpoint,
            "metric": metric,
            "reason": self.reason,
            "candidates": [candidate.to_mapping() for candidate in candidates],
            "promotion": promotion,
        }
        return json.dumps(content, indent=2, allow_nan=False) + "\n"


def select(candidates: Sequence[Measured], metric: SelectionMetric, enabled: Literal["default", "true", "false"]) -> Selection:
    """The best candidate by `metric`; equal ones are told apart by token accuracy, then loss, then the earlier step.

    The last one when selection is off or nothing can be compared.
    """
    last = max(candidate.step for candidate in candidates)
    if enabled == "false":
        return Selection(last, "The last checkpoint, because enable_checkpoint_selection is false.")
    if not any(candidate.is_scored for candidate in candidates):
        asked = "enable_checkpoint_selection is true, but " if enabled == "true" else ""
        return Selection(last, f"The last checkpoint: {asked}there is no evaluation data to select by.")
    finite = [candidate for candidate in candidates if candidate.value(metric) is not None]
    if not finite:
        hint = " No answers were generated (evaluation_num_prompts)." if metric in GENERATION_METRICS else ""
        return Selection(last, f"The last checkpoint: no checkpoint has a finite {WORDS[metric]}.{hint}")
    criteria = _criteria(metric)
    best, *others = sorted(finite, key=lambda candidate: (*(_cost(candidate, name) for name in criteria), candidate.step))
    if not others:
        which = "The only checkpoint" if len(candidates) == 1 else "The only one whose metric is finite"
        return Selection(best.step, f"{which}: {WORDS[metric]} {_show(best, metric)}.")
    reason = f"{_best(metric)} {WORDS[metric]} of {len(finite)} checkpoints: {_show(best, metric)}"
    if others[0].value(metric) == best.value(metric):
        reason += f", {_tie_break(best, others[0], criteria[1:])}"
    else:
        reason += f"; next is step {others[0].step} with {_show(others[0], metric)}"
    if len(finite) < len(candidates):
        reason += f". Left out, because theirs is no finite number: {len(candidates) - len(finite)}"
    return Selection(best.step, reason + ".")


def _criteria(metric: SelectionMetric) -> list[SelectionMetric]:
    tie_breakers: tuple[SelectionMetric, ...] = ("token_accuracy", "loss")
    return [metric, *(name for name in tie_breakers if name != metric)]


def _cost(candidate: Measured, metric: SelectionMetric) -> float:
    """Smaller is better; infinite when there is no value."""
    value = candidate.value(metric)
    if value is None:
        return math.inf
    return value if metric == "loss" else -value


def _tie_break(best: Measured, other: Measured, criteria: Sequence[SelectionMetric]) -> str:
    for name in criteria:
        if _cost(best, name) != _cost(other, name):
            return f"as step {other.step} has; its {WORDS[name]} is better: {_show(best, name)} against {_show(other, name)}"
    return f"as step {other.step} has; the earlier one is taken"


def _best(metric: SelectionMetric) -> str:
    return "Lowest" if metric == "loss" else "Highest"


def written(metric: SelectionMetric, value: float) -> str:
    """The value as precisely as it decides: a loss with four decimals, a share in hundredths of a percent."""
    return f"{value:.4f}" if metric == "loss" else f"{value:.2%}"


def _show(candidate: Measured, metric: SelectionMetric) -> str:
    value = candidate.value(metric)
    return "none" if value is None else written(metric, value)
