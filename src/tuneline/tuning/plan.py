"""What one tuning does, and at which steps it evaluates and saves. Pure."""

import math
from dataclasses import dataclass

from tuneline.parameters import TuneModel
from tuneline.resolution import Resolved

MAX_CHECKPOINTS = 10


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """The hyperparameters, all decided. Together with the base model and the data they decide the tuned weights."""

    steps: int
    batch_size: int
    """Examples a step."""
    learning_rate: float
    """Peak of the schedule."""
    evaluation_interval: int
    early_stopping: bool
    seed: int

    @classmethod
    def from_parameters(cls, parameters: TuneModel, resolved: Resolved) -> "TuningPlan":
        """An absolute learning rate wins; else the base model's own is scaled."""
        scaled = resolved.base_model.learning_rate * parameters.learning_rate_multiplier
        return cls(
            steps=parameters.train_steps,
            batch_size=resolved.batch_size,
            learning_rate=parameters.learning_rate if parameters.learning_rate > 0 else scaled,
            evaluation_interval=parameters.evaluation_interval,
            early_stopping=parameters.enable_early_stopping,
            seed=parameters.seed,
        )

    def evaluates_at(self, step: int) -> bool:
        """Whether the model is evaluated after `step` updates (given evaluation data): the base, every interval, the end."""
        return step % self.evaluation_interval == 0 or step == self.steps

    def saves_at(self, step: int, *, evaluated: bool) -> bool:
        """Whether a checkpoint is made after `step` updates: at each evaluation; without evaluations at most `MAX_CHECKPOINTS` times."""
        interval = self.evaluation_interval if evaluated else max(self.evaluation_interval, math.ceil(self.steps / MAX_CHECKPOINTS))
        return step > 0 and (step % interval == 0 or step == self.steps)

    def epochs(self, step: int, num_examples: int) -> float:
        """How often `step` updates have used each example."""
        return step * self.batch_size / num_examples
