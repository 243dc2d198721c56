"""Which examples a step learns from, as packed rows: a pure function of seed and step, so there is no position to save or restore."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tuneline.data.dataset import TokenDataset
from tuneline.modeling.scoring import PackedRow, num_predictions, packed_rows
from tuneline.tuning.group import Group
from tuneline.tuning.plan import TuningPlan


@dataclass(frozen=True)
class Batch:
    """The examples of one step: all of them, and this rank's share as rows."""

    examples: tuple[int, ...]
    rows: tuple[PackedRow, ...]
    num_predictions: int
    """Trained tokens of all examples: what the loss is divided by, so that neither the cut into rows nor the number of ranks changes anything."""
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


def shares(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Places of the examples of each of `size` ranks, about equal in tokens: each example, the longest first, goes to the rank with the fewest so far."""
    tokens = [0] * size
    places: list[list[int]] = [[] for _ in range(size)]
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        rank = tokens.index(min(tokens))
        tokens[rank] += lengths[place]
        places[rank].append(place)
    return [sorted(own) for own in places]


def batch_of_step(dataset: TokenDataset, plan: TuningPlan, step: int, tokens_per_row: int, group: Group) -> Batch:
    """The batch of the update after `step` others, and this rank's share of it cut into rows of at most `tokens_per_row` tokens."""
    examples = examples_of_step(step, num_examples=len(dataset), batch_size=plan.batch_size, seed=plan.seed)
    lengths = [int(length) for length in dataset.lengths[examples]]
    rows = packed_rows(dataset, [examples[place] for place in group.share(lengths)], tokens_per_row)
    return Batch(examples=tuple(examples), rows=tuple(rows), num_predictions=num_predictions(dataset, examples), num_tokens=sum(lengths))
