"""Answers made side by side by transformers' continuous batching: new ones join and finished ones leave between two forward passes.

Here is what goes around it: the size of the paged cache, the queue before it, and the way of each token to whoever waits for it.
"""

import itertools
import secrets
import threading
from collections import Counter, deque
from collections.abc import Sequence

from transformers import ContinuousBatchingConfig, GenerationConfig, PreTrainedModel
from transformers.generation.continuous_batching import ContinuousBatchingManager
from transformers.generation.continuous_batching.requests import GenerationOutput

from tuneline.errors import InfrastructureError
from tuneline.serving.engine import COLDEST, MAX_WAITING, NOT_RUNNING, STOP_SECONDS, TOO_MANY, Deliver, Generation
from tuneline.serving.prompts import Sampling

MAX_RUNNING = 32
BATCH_TOKENS = 256
"""Of one forward pass. A longer prompt is read in several, so that nobody who is being answered feels a pause."""
PAGE_TOKENS = 32
SPARE_PAGES = 16
"""Models that mix sliding and full attention lose some where the two kinds meet."""
CHECK_SECONDS = 0.2
"""How often it is looked whether the generation thread still runs when it delivers nothing."""


class Batcher:
    """A model, the manager whose thread runs it, and a thread that hands out the tokens."""

    takes_seeds = False

    def __init__(self, model: PreTrainedModel, *, end_ids: frozenset[int], capacity_tokens: int) -> None:
        self._end_ids = end_ids
        self.vocabulary_size = int(model.config.get_text_config().vocab_size)
        self._free_pages = -(-capacity_tokens // PAGE_TOKENS) + 1
        self._waiting: deque[Generation] = deque()
        self._running: dict[str, Generation] = {}
        self._ids = itertools.count()
        self._lock = threading.Lock()
        self._is_open = True
        self._manager = _manager(model, end_ids, self._free_pages + SPARE_PAGES)
        self._manager.start()
        self._thread = threading.Thread(target=self._hand_out, name="batcher", daemon=True)
        self._thread.start()

    @property
    def is_healthy(self) -> bool:
        """Whether the generation thread runs. An error in it ends it for good."""
        return self._is_open and bool(self._manager.is_running())

    def submit(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, deliver: Deliver) -> Generation:
        """Queue one answer. `deliver` is called from the batcher's thread."""
        generation = Generation(request_id=str(next(self._ids)), prompt=prompt, max_tokens=max_tokens, sampling=sampling, deliver=deliver)
        with self._lock:
            if not self.is_healthy:
                raise InfrastructureError(NOT_RUNNING)
            if len(self._waiting) >= MAX_WAITING:
                raise InfrastructureError(TOO_MANY)
            self._waiting.append(generation)
            self._admit()
        return generation

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for this answer any more."""
        with self._lock:
            if generation in self._waiting:
                self._waiting.remove(generation)
            elif generation.request_id in self._running:
                self._manager.cancel_request(generation.request_id)
                self._leave(generation)

    def close(self) -> None:
        """Fail what is not finished, and end both threads."""
        self._is_open = False
        self._manager.stop(block=True, timeout=STOP_SECONDS, hard_stop=True)
        self._thread.join(STOP_SECONDS)

    def _admit(self) -> None:
        """First come, first served, as long as everybody's longest possible answer fits the cache: the manager never has to take pages away."""
        while self._waiting and pages_of(self._waiting[0]) <= self._free_pages:
            generation = self._waiting.popleft()
            self._free_pages -= pages_of(generation)
            self._running[generation.request_id] = generation
            self._manager.add_request(
                list(generation.prompt),
                request_id=generation.request_id,
                max_new_tokens=generation.max_tokens,
                streaming=True,
                **processor_arguments(generation.sampling, self.vocabulary_size),
            )

    def _leave(self, generation: Generation) -> None:
        del self._running[generation.request_id]
        self._free_pages += pages_of(generation)
        self._admit()

    def _hand_out(self) -> None:
        while True:
            output = self._manager.get_result(timeout=CHECK_SECONDS)
            if output is not None:
                self._deliver(output)
            elif not self.is_healthy:
                break
        with self._lock:
            self._is_open = False
            lost = [*self._running.values(), *self._waiting]
            self._running.clear()
            self._waiting.clear()
        for generation in lost:
            generation.deliver(None, "failed")

    def _deliver(self, output: GenerationOutput) -> None:
        """Each output has all tokens so far."""
        with self._lock:
            generation = self._running.get(output.request_id)
            if generation is None:  # cancelled
                return
            if output.is_finished():
                self._leave(generation)
        if output.error is not None:
            generation.deliver(None, "failed")
            return
        tokens = output.generated_tokens[generation.num_delivered :]
        generation.num_delivered += len(tokens)
        for num_left, token in zip(reversed(range(len(tokens))), tokens, strict=True):
            is_last = output.is_finished() and num_left == 0
            generation.deliver(token, None if not is_last else "stop" if token in self._end_ids else "length")


def pages_of(generation: Generation) -> int:
    """Pages that the longest possible answer takes; a sliding window may touch one more."""
    return -(-(len(generation.prompt) + generation.max_tokens) // PAGE_TOKENS) + 1


def processor_arguments(sampling: Sampling, vocabulary: int) -> dict[str, float | int]:
    """What the logits processors get for one answer. Greedy is the one likeliest token; a top_p of nothing keeps one even of equals."""
    if sampling.temperature < COLDEST:
        return {"temperature": 1.0, "top_k": 1, "top_p": 0.0}
    return {"temperature": float(sampling.temperature), "top_k": min(sampling.top_k or vocabulary, vocabulary), "top_p": float(sampling.top_p)}


def capacity_tokens(model: PreTrainedModel, memory_bytes: int) -> int:
    """Tokens whose keys and values, and columns of the attention masks, fit the memory."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers: int = config.num_hidden_layers
    kinds = Counter(getattr(config, "layer_types", None) or ["all"] * layers)
    keys_and_values = 2 * layers * heads * head_size * model.dtype.itemsize
    # One mask for each kind of attention, as wide as if the whole cache were that of the kind with the fewest layers.
    masks = len(kinds) * BATCH_TOKENS * model.dtype.itemsize * layers // min(kinds.values())
    return int(memory_bytes // (keys_and_values + masks))


def _manager(model: PreTrainedModel, end_ids: frozenset[int], num_pages: int) -> ContinuousBatchingManager:
    # A processor exists only where the default differs from the neutral value; each answer brings its own values.
    generation_config = GenerationConfig(do_sample=True, temperature=0.5, top_k=1, top_p=0.5, eos_token_id=sorted(end_ids))
    # All sizes are explicit: those inferred take most of the memory. Nor may kernels for flash attention be downloaded.
    batching_config = ContinuousBatchingConfig(
        page_size=PAGE_TOKENS,
        num_blocks=num_pages,
        max_batch_tokens=BATCH_TOKENS,
        max_requests_per_batch=MAX_RUNNING,
        max_blocks_per_request=0,
        seed=secrets.randbits(32),  # else every process would draw the same
        per_request_processors=True,
        use_async_batching=False,
        use_cuda_graph=False,
        auto_switch_to_flash=False,
    )
    return model.init_continuous_batching(generation_config=generation_config, continuous_batching_config=batching_config)
