"""What makes answers out of tokens, whichever library runs the model: `batching.Batcher` on transformers, `vllm_engine.VllmEngine` on vLLM."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tuneline.serving.prompts import Sampling

MAX_WAITING = 1024
COLDEST = 1e-4
"""Temperatures below it are greedy: logits divided by them would overflow."""
STOP_SECONDS = 3
"""For an engine to end when it is closed."""
NOT_RUNNING = "the server is stopping, or a generation step failed; see its log."
TOO_MANY = f"{MAX_WAITING} answers are already being waited for; try later."

End = Literal["stop", "length", "failed"]
Deliver = Callable[[int | None, End | None], None]
"""Receives each token, and the end with the last one. A stop token is delivered, too."""


@dataclass(eq=False, kw_only=True)
class Generation:
    """One answer in the making."""

    request_id: str
    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling
    deliver: Deliver
    num_delivered: int = 0


class Engine(Protocol):
    """A model that answers many prompts side by side. Any thread may call it."""

    @property
    def vocabulary_size(self) -> int:
        """Every token id is below it."""

    @property
    def takes_seeds(self) -> bool:
        """Whether an answer may have a source of randomness of its own."""

    @property
    def is_healthy(self) -> bool:
        """Whether answers can be expected. An engine that is not healthy will not be again."""

    def submit(self, prompt: Sequence[int], max_tokens: int, sampling: Sampling, deliver: Deliver) -> Generation:
        """Queue one answer. `deliver` is called from a thread of the engine."""

    def cancel(self, generation: Generation) -> None:
        """Nobody waits for this answer any more; nothing happens when it has ended."""

    def close(self) -> None:
        """Fail what is not finished, and end."""
