"""Greedy generation for many prompts at once, with the answers that each prompt would get alone.

Own loop rather than `model.generate`: that one mixes a checkpoint's `generation_config.json` (temperature, repetition penalty, ...)
into the settings it is given, and goes on computing rows that have already ended.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from transformers import DynamicCache, PreTrainedModel

TOKENS_PER_BATCH = 16_384
"""Positions of one batch, prompts and answers with padding. At 128 KiB of keys and values a token (8B models) that is 2 GiB."""


class StopTokens(Protocol):
    """The part of a tokenizer that generation needs."""

    @property
    def end_of_turn_ids(self) -> frozenset[int]: ...
    @property
    def pad_id(self) -> int: ...


def generate(
    model: PreTrainedModel,
    tokenizer: StopTokens,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    report: Callable[[int], None] = lambda _done: None,
) -> list[list[int]]:
    """The new tokens of each prompt, without the token that ended the turn; an answer of `max_tokens` was cut off.

    An answer also ends where the model's context is full. `model` must not be loaded for packed rows. `report` hears after each
    batch how many prompts are done.
    """
    if not all(prompts):
        raise ValueError("A prompt has no token; every prompt begins with at least the beginning-of-text token.")
    context: int = model.config.max_position_embeddings
    room = [min(max_tokens, context - len(prompt)) for prompt in prompts]
    answers: list[list[int]] = [[] for _ in prompts]
    answerable = [index for index in range(len(prompts)) if room[index] > 0]
    done = len(prompts) - len(answerable)
    for batch in _batches(answerable, [len(prompt) + max(left, 0) for prompt, left in zip(prompts, room, strict=True)], tokens_per_batch):
        for index, answer in zip(batch, _generate_batch(model, tokenizer, [prompts[i] for i in batch], [room[i] for i in batch]), strict=True):
            answers[index] = answer
        done += len(batch)
        report(done)
    return answers


def _batches(indices: Sequence[int], sizes: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Neighbours in size together, so that little is padding; the longest first, so that a lack of memory shows at once."""
    batch: list[int] = []
    for index in sorted(indices, key=lambda i: -sizes[i]):
        if batch and (len(batch) + 1) * sizes[batch[0]] > tokens_per_batch:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def _generate_batch(model: PreTrainedModel, tokenizer: StopTokens, prompts: Sequence[Sequence[int]], room: Sequence[int]) -> list[list[int]]:
    width = max(map(len, prompts))
    # Padding on the left: the last position of every row is the newest token.
    tokens = torch.tensor([[tokenizer.pad_id] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    cache = DynamicCache(config=model.config)
    answers: list[list[int]] = [[] for _ in prompts]
    rows = list(range(len(prompts)))
    while rows:
        output = model(input_ids=tokens, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        newest: list[int] = output.logits[:, -1].argmax(-1).tolist()
        unfinished = []
        for place, (row, token) in enumerate(zip(rows, newest, strict=True)):
            if token not in tokenizer.end_of_turn_ids:
                answers[row].append(token)
                if len(answers[row]) < room[row]:
                    unfinished.append(place)
        if 0 < len(unfinished) < len(rows):
            kept = torch.tensor(unfinished, device=model.device)
            cache.batch_select_indices(kept)
            mask, positions = mask[kept], positions[kept]
        rows = [rows[place] for place in unfinished]
        tokens = torch.tensor([[newest[place]] for place in unfinished], device=model.device)
        mask = torch.cat([mask[: len(rows)], mask.new_ones(len(rows), 1)], dim=1)
        positions = positions[: len(rows), -1:] + 1
    return answers
