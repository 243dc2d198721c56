"""Packed rows, and the loss and token accuracy of a model on them. Tuning and evaluation score with the same functions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from tuneline.data.dataset import TokenDataset
from tuneline.data.packing import pack
from tuneline.modeling.loss import linear_cross_entropy

IGNORED = -100
"""Target of a position whose next token is not trained on. The last position of every document has it."""


@dataclass(frozen=True)
class PackedRow:
    """Whole examples ("documents"), one after the other."""

    ids: torch.Tensor
    positions: torch.Tensor
    """Counted from 0 in every document."""
    targets: torch.Tensor
    """The next token where it is trained on, else `IGNORED`; never the first token of the next document."""
    lengths: tuple[int, ...]
    """Tokens of each document."""
    examples: tuple[int, ...]
    """Index of each document in its dataset."""

    @property
    def num_predictions(self) -> int:
        """Tokens that are trained on, or scored."""
        return int((self.targets != IGNORED).sum())


@dataclass(frozen=True)
class Score:
    """Means over all predicted tokens."""

    loss: float
    token_accuracy: float
    num_predictions: int

    @classmethod
    def from_sums(cls, loss: float, correct: float, num_predictions: float) -> "Score":
        """From what `score_sums` gives, or a sum of several of them."""
        return cls(loss=loss / max(1, num_predictions), token_accuracy=correct / max(1, num_predictions), num_predictions=int(num_predictions))


def packed_row(dataset: TokenDataset, examples: Sequence[int]) -> PackedRow:
    """The examples as one row."""
    documents = [dataset.example(index) for index in examples]
    targets = [np.append(np.where(mask[1:], ids[1:], IGNORED), IGNORED) for ids, mask in documents]
    return PackedRow(
        ids=_tensor([ids for ids, _ in documents]),
        positions=_tensor([np.arange(len(ids)) for ids, _ in documents]),
        targets=_tensor(targets),
        lengths=tuple(len(ids) for ids, _ in documents),
        examples=tuple(examples),
    )


def _tensor(parts: Sequence[np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.int64))


def packed_rows(dataset: TokenDataset, examples: Sequence[int], tokens_per_row: int) -> list[PackedRow]:
    """The examples as rows of at most `tokens_per_row` tokens; a longer example gets a row of its own size."""
    lengths = [int(dataset.lengths[index]) for index in examples]
    capacity = max([tokens_per_row, *lengths])
    return [packed_row(dataset, [examples[place] for place in row]) for row in pack(lengths, capacity)]


def num_predictions(dataset: TokenDataset, examples: Sequence[int]) -> int:
    """Tokens of the examples that are trained on, or scored: of each all but its first, which nothing predicts."""
    return sum(int(np.count_nonzero(dataset.example(index)[1][1:])) for index in examples)


def row_loss(model: PreTrainedModel, row: PackedRow, scale: float = 1.0, dtype: torch.dtype | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """`scale` times the summed loss of a row, and how many of its predictions are right.

    Matrices are multiplied in `dtype`; unset, in the weights' own. Only the predicted positions go through the output head.
    """
    head = model.get_output_embeddings().weight
    dtype = dtype or head.dtype
    on = {"device": head.device, "non_blocking": True}
    with torch.autocast(head.device.type, dtype=dtype, enabled=dtype != head.dtype):
        hidden: torch.Tensor = model.get_decoder()(
            input_ids=row.ids[None].to(**on), position_ids=row.positions[None].to(**on), use_cache=False, document_lengths=row.lengths
        ).last_hidden_state[0]
    predicted = (row.targets != IGNORED).nonzero().squeeze(1)  # on the host, so that a GPU is not waited for
    hidden = hidden.index_select(0, predicted.to(**on))
    softcap: float | None = getattr(model.config, "final_logit_softcapping", None)
    return linear_cross_entropy(hidden, head, row.targets[predicted].to(**on), scale, softcap=softcap, dtype=dtype)


def score(
    model: PreTrainedModel,
    dataset: TokenDataset,
    *,
    tokens_per_row: int,
    dtype: torch.dtype | None = None,
    before_row: Callable[[int, int], None] = lambda _done, _total: None,
) -> Score:
    """Mean loss and token accuracy over every predicted token of the dataset.

    `before_row` is told how many rows of how many are done; it may raise to stop.
    """
    rows = packed_rows(dataset, range(len(dataset)), tokens_per_row)

    def counted() -> Iterator[PackedRow]:
        for done, row in enumerate(rows):
            before_row(done, len(rows))
            yield row

    return Score.from_sums(*score_sums(model, counted(), dtype))


def score_sums(model: PreTrainedModel, rows: Iterable[PackedRow], dtype: torch.dtype | None = None) -> tuple[float, int, int]:
    """Summed loss, right predictions and predictions of some rows."""
    loss, correct, predictions = 0.0, 0, 0
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for row in rows:
                row_sum, row_correct = row_loss(model, row, dtype=dtype)
                loss, correct, predictions = loss + float(row_sum), correct + int(row_correct), predictions + row.num_predictions
    finally:
        model.train(was_training)
    return loss, correct, predictions
