"""Continuous batching: every forward pass moves all running generations on by one token; new ones join and finished ones leave between two.

The rows of a batch are aligned at their ends, in a plain dynamic cache, so that any causal model of transformers can be served and
each row has its own sampling. Nothing but the model's public forward pass is used.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel

from tuneline.errors import InfrastructureError
from tuneline.serving.prompts import Sampling

logger = logging.getLogger(__name__)

MAX_RUNNING = 32
MAX_WAITING = 1024
PREFILL_TOKENS = 4096
"""Prompt tokens, padding included, that are read between two steps. A longer pause is felt by everybody who is being answered."""

End = Literal["stop", "length", "failed"]
Deliver = Callable[[int | None, End | None], None]
"""Receives each token, and the end with the last one."""


@dataclass(eq=False, kw_only=True)
class Generation:
    """One answer in the making."""

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    deliver: Deliver
    generator: torch.Generator
    last_token: int = 0
    num_generated: int = 0
    is_over: bool = False
    """Finished, failed, or nobody waits for it any more."""

    @property
    def num_cached(self) -> int:
        """Tokens whose keys and values are known: all but the last one."""
        return len(self.prompt) + self.num_generated - 1


class Batcher:
    """A thread that owns the model."""

    def __init__(self, model: PreTrainedModel, *, end_ids: frozenset[int], pad_id: int, capacity_tokens: int) -> None:
        self._model = model
        self._end_ids = end_ids
        self._pad_id = pad_id
        self._capacity_tokens = capacity_tokens
        self._waiting: deque[Generation] = deque()
        self._running: list[Generation] = []
        self._cache = DynamicCache()
        self._changed = threading.Condition()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self.is_healthy = True
        """Whether the last step worked."""
        self._thread.start()

    def submit(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, deliver: Deliver) -> Generation:
        """Queue one answer. `deliver` is called from the batcher's thread."""
        generator = torch.Generator(self._model.device)
        if sampling.seed is None:
            generator.seed()
        else:
            generator.manual_seed(sampling.seed)
        generation = Generation(prompt=prompt, max_tokens=max_tokens, sampling=sampling, deliver=deliver, generator=generator)
        with self._changed:
            if self._is_closing or len(self._waiting) >= MAX_WAITING:
                raise InfrastructureError("the server is stopping." if self._is_closing else f"{MAX_WAITING} answers are already being waited for; try later.")
            self._waiting.append(generation)
            self._changed.notify()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for this answer any more."""
        generation.is_over = True

    def close(self) -> None:
        """Fail what is not finished, and end the thread."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._waiting or self._running)
                if self._is_closing:
                    break
                joining = self._admit()
            try:
                if joining:
                    self._prefill(joining)
                if self._running:
                    self._step()
                self.is_healthy = True
            except Exception:  # one bad step (out of memory, say) must not end the service: those in it are told, the others go on
                logger.exception("a generation step failed; answers lost: %d", len({*self._running, *joining}))
                self.is_healthy = False
                self._fail([*self._running, *(generation for generation in joining if generation not in self._running)])
                self._running, self._cache = [], DynamicCache()
        self._fail([*self._running, *self._waiting])

    def _admit(self) -> list[Generation]:
        """First come, first served, as long as everybody's longest possible answer fits the cache."""
        admitted: list[Generation] = []
        self._waiting = deque(generation for generation in self._waiting if not generation.is_over)
        while self._waiting and len(self._running) + len(admitted) < MAX_RUNNING:
            rows = [*self._running, *admitted, self._waiting[0]]
            width = max(len(generation.prompt) + generation.max_tokens for generation in rows)
            prefill = (len(admitted) + 1) * max(len(generation.prompt) for generation in rows[len(self._running) :])
            if (len(rows) > 1 and width * len(rows) > self._capacity_tokens) or (admitted and prefill > PREFILL_TOKENS):
                break
            admitted.append(self._waiting.popleft())
        return admitted

    @torch.inference_mode()
    def _prefill(self, joining: list[Generation]) -> None:
        """Read the prompts, choose each answer's first token, and let those that go on join the batch."""
        lengths = [len(generation.prompt) for generation in joining]
        width = max(lengths)
        ids = torch.tensor([[self._pad_id] * (width - len(generation.prompt)) + list(generation.prompt) for generation in joining])
        columns = torch.arange(width) - width
        starts = torch.tensor(lengths)[:, None]
        cache = DynamicCache()
        logits = self._forward(ids, mask=columns >= -starts, positions=(columns + starts).clamp(min=0), cache=cache)
        self._advance(joining, logits)
        kept = [row for row, generation in enumerate(joining) if not generation.is_over]
        if kept:
            joined_width = max(self._width(), max(lengths[row] for row in kept))
            parts = [(cache, kept)] if not self._running else [(self._cache, list(range(len(self._running)))), (cache, kept)]
            self._cache = _joined(parts, joined_width)
            self._running += [joining[row] for row in kept]

    @torch.inference_mode()
    def _step(self) -> None:
        """One more token for everybody."""
        self._drop_those_that_are_over()
        if not self._running:
            return
        cached = torch.tensor([generation.num_cached for generation in self._running])[:, None]
        columns = torch.arange(self._width() + 1)
        ids = torch.tensor([[generation.last_token] for generation in self._running])
        logits = self._forward(ids, mask=columns >= self._width() - cached, positions=cached, cache=self._cache)
        self._advance(self._running, logits)
        self._drop_those_that_are_over()

    def _forward(self, ids: torch.Tensor, *, mask: torch.Tensor, positions: torch.Tensor, cache: DynamicCache) -> torch.Tensor:
        """Logits of the last column."""
        device = self._model.device
        output = self._model(
            input_ids=ids.to(device),
            attention_mask=mask.long().to(device),
            position_ids=positions.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits

    def _advance(self, generations: Sequence[Generation], logits: torch.Tensor) -> None:
        for generation, token in zip(generations, choose(logits, generations), strict=True):
            generation.last_token = token
            generation.num_generated += 1
            if generation.is_over:
                continue
            end: End | None = "stop" if token in self._end_ids else "length" if generation.num_generated >= generation.max_tokens else None
            generation.is_over = end is not None
            generation.deliver(token, end)

    def _width(self) -> int:
        """Columns of the cache."""
        return max((generation.num_cached for generation in self._running), default=0)

    def _drop_those_that_are_over(self) -> None:
        kept = [row for row, generation in enumerate(self._running) if not generation.is_over]
        if len(kept) < len(self._running):
            self._running = [self._running[row] for row in kept]
            self._cache = _joined([(self._cache, kept)], self._width()) if kept else DynamicCache()

    def _fail(self, generations: Sequence[Generation]) -> None:
        for generation in generations:
            if not generation.is_over:
                generation.is_over = True
                generation.deliver(None, "failed")


def choose(logits: torch.Tensor, generations: Sequence[Generation]) -> list[int]:
    """The next token of each row: the likeliest one, or one drawn as the row's sampling says."""
    tokens: list[int] = logits.argmax(-1).tolist()
    for row, generation in enumerate(generations):
        if generation.sampling.temperature > 0:
            tokens[row] = _draw(logits[row], generation.sampling, generation.generator)
    return tokens


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    probabilities, tokens = torch.softmax(logits / sampling.temperature, -1).sort(descending=True)
    if sampling.top_k:
        probabilities, tokens = probabilities[: sampling.top_k], tokens[: sampling.top_k]
    # The smallest set of tokens whose probabilities reach top_p: a token stays as long as those before it do not.
    before = probabilities.cumsum(-1) - probabilities
    probabilities = torch.where(before < sampling.top_p * probabilities.sum(), probabilities, 0.0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])


def _joined(parts: Sequence[tuple[DynamicCache, list[int]]], width: int) -> DynamicCache:
    """A cache of the given rows of each part, `width` columns wide, aligned at the end."""
    joined = DynamicCache()
    for layer in range(len(parts[0][0].layers)):
        pairs = [(cache.layers[layer].keys[rows], cache.layers[layer].values[rows]) for cache, rows in parts]
        keys, values = ([_aligned(tensor, width) for tensor in tensors] for tensors in zip(*pairs, strict=True))
        joined.update(torch.cat(keys), torch.cat(values), layer)
    return joined


def _aligned(tensor: torch.Tensor, width: int) -> torch.Tensor:
    """Keys or values with columns added or cut off at the beginning. A negative padding cuts."""
    return pad(tensor, (0, 0, width - tensor.shape[-2], 0))
