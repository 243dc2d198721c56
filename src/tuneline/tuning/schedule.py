"""The learning rate of each step, as a share of its peak. Pure."""

import math

WARM_UP_SHARE = 0.05
"""Part of the steps in which the rate rises. AdamW's second moment is an estimate from few steps there."""
LAST_SHARE = 0.1
"""What is left of the peak at the end: the last checkpoints settle but still learn."""


def rate_share(step: int, steps: int) -> float:
    """Share of the peak for the update after `step` others: a linear rise, then half a cosine down to a tenth."""
    warm_up = max(1, round(WARM_UP_SHARE * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up - 1)
    return LAST_SHARE + (1 - LAST_SHARE) * (1 + math.cos(math.pi * min(1.0, done))) / 2
