"""The metric history of one tuning: what `history.json` holds, and what a resumed run goes on writing."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Split = Literal["train", "eval"]
METRICS = ("total_loss", "fraction_of_correct_next_step_preds", "num_predictions")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One split at one step: of a training step its batch, of an evaluation all evaluation data."""

    step: int
    """Updates so far: 0 is the base model."""
    total_loss: float
    """Mean cross-entropy over all predicted tokens."""
    fraction_of_correct_next_step_preds: float
    """Token accuracy: how many of them the model put first, given the right tokens before."""
    num_predictions: int


@dataclass
class Records:
    """What has been measured so far."""

    train: list[Measurement] = field(default_factory=list)
    eval: list[Measurement] = field(default_factory=list)
    seconds: float = 0.0
    """Time in the loop, over all attempts, evaluation and saving included."""
    train_seconds: float = 0.0
    """Time in training steps alone."""
    tokens: int = 0
    """Tokens of all training steps; there is no padding."""

    @classmethod
    def from_json(cls, *, train: Sequence[Mapping[str, float]], eval: Sequence[Mapping[str, float]], **totals: float) -> "Records":  # noqa: A002
        """The inverse of `dataclasses.asdict`."""
        return cls(train=[Measurement(**row) for row in train], eval=[Measurement(**row) for row in eval], **totals)  # type: ignore[arg-type]

    def evaluated_at(self, step: int) -> bool:
        """Whether the evaluation of this step is done."""
        return any(measurement.step == step for measurement in self.eval)

    def best_steps(self) -> set[int]:
        """The tuned steps with the best token accuracy and with the lowest loss; a tie goes to the earlier one."""
        tuned = [measurement for measurement in self.eval if measurement.step > 0]
        if not tuned:
            return set()
        by_accuracy = max(tuned, key=lambda measurement: measurement.fraction_of_correct_next_step_preds)
        return {by_accuracy.step, min(tuned, key=lambda measurement: measurement.total_loss).step}


@dataclass(frozen=True, kw_only=True)
class History:
    """The content of `history.json`."""

    steps: int
    """Updates that were made: fewer than planned after an early stop."""
    examples: int
    batch_size: int
    epochs: float
    stopped_early: str
    """Why training ended before its last step; empty when it did not."""
    seconds: float
    tokens_per_second: float
    learning_rate: float
    train: Sequence[Measurement]
    eval: Sequence[Measurement]
    checkpoints: Sequence[int]

    def write(self, path: Path) -> None:
        """Write the JSON file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), allow_nan=False) + "\n", encoding="utf-8")

    def last_metrics(self) -> dict[str, float]:
        """The newest measurement of each split, one flat name a value: what KFP shows beside the artifact."""
        newest = {split: rows[-1] for split, rows in (("train", self.train), ("eval", self.eval)) if rows}
        return {f"{split}_{metric}": getattr(row, metric) for split, row in newest.items() for metric in METRICS}
