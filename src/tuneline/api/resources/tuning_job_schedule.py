"""Epochs of a request as steps of a run, so that checkpoints fall where Vertex makes them. Pure."""

import math
from dataclasses import dataclass

from tuneline.tuning.plan import MAX_CHECKPOINTS

RECOMMENDED_EPOCHS = 3
"""When the request gives none: what Google's published samples for tuning open models take. The catalogue has no column for it."""
MAX_STEPS = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a job tunes, and how often it makes a checkpoint."""

    epochs: int
    batch_size: int
    """Examples a step."""
    steps_per_epoch: int
    interval: int
    """Steps between two checkpoints."""
    steps: int

    def epoch_of(self, step: int) -> int:
        """The epoch that ends with a checkpoint's step."""
        return self.epochs if step >= self.steps else step // self.steps_per_epoch


def schedule(*, examples: int, epochs: int, batch_size: int) -> Schedule:
    """One checkpoint an epoch for up to ten epochs; for more, one at the end of every few epochs, ten at most.

    Batches run on over the end of an epoch, so `epochs x examples / batch_size` steps, rounded up, see every example `epochs` times. Few
    examples need some steps more, or the last epoch would have no checkpoint of its own.
    """
    batch_size = min(batch_size, examples)
    steps_per_epoch = math.ceil(examples / batch_size)
    return Schedule(
        epochs=epochs,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        interval=steps_per_epoch * math.ceil(epochs / MAX_CHECKPOINTS),
        steps=max(-(-epochs * examples // batch_size), (epochs - 1) * steps_per_epoch + 1),
    )
