"""Which examples a step learns from, as packed rows: a pure function of seed and step, so there is no position to save or restore."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuneline.data.dataset import TokenDataset
from tuneline.modeling.scoring import PackedRow, packed_rows
from tuneline.tuning.plan import TuningPlan


@dataclass(frozen=True)
class Batch:
    """The examples of one step."""

    rows: tuple[PackedRow, ...]
    num_predictions: int
    """Trained tokens of all rows: what the loss is divided by, so that the cut into rows changes nothing."""
    num_tokens: int


@functools.lru_cache(maxsize=2)  # a step lies in one epoch, or on the border of two
def epoch_order(num_examples: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order of one epoch."""
    # The legacy generator, because numpy promises never to change what it yields (NEP 19).
    return np.random.RandomState([seed % 2**32, epoch]).permutation(num_examples).astype(np.int64)


def examples_of_step(step: int, *, num_examples: int, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of the update after `step` others. Batches run on over the end of an epoch: none is short."""
    places = range(step * batch_size, (step + 1) * batch_size)
    return [int(epoch_order(num_examples, seed, place // num_examples)[place % num_examples]) for place in places]


def batch_of_step(dataset: TokenDataset, plan: TuningPlan, step: int, tokens_per_row: int) -> Batch:
    """The batch of the update after `step` others, cut into rows of at most `tokens_per_row` tokens."""
    examples = examples_of_step(step, num_examples=len(dataset), batch_size=plan.batch_size, seed=plan.seed)
    rows = tuple(packed_rows(dataset, examples, tokens_per_row))
    return Batch(rows=rows, num_predictions=sum(row.num_predictions for row in rows), num_tokens=sum(map(len, (row.ids for row in rows))))
