"""What a request asks for and what it gets, whichever of the two protocols it speaks."""

from dataclasses import dataclass
from typing import Literal

from tuneline.data.conversation import Turn

FinishReason = Literal["stop", "length"]

DEFAULT_MAX_TOKENS = 256
"""Longest answer when the request does not say, or what the context has room for."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen, and when to stop. The default is greedy."""

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    """0: all tokens."""
    seed: int | None = None
    """Without effect on greedy answers. Not every engine takes one for others."""
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One conversation that wants `num_answers` answers."""

    where: str
    """Its place in the request, for error messages."""
    turns: tuple[Turn, ...]
    sampling: Sampling
    num_answers: int = 1


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One answer."""

    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    output_tokens: int
    """The end-of-turn token counts."""
