"""What every data format means: a system turn if there is one, then user and assistant in turn, the assistant last."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one side says."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """One example. Only the assistant's turns are learned."""

    turns: tuple[Turn, ...]

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """Everything before the last answer."""
        return self.turns[:-1]

    @property
    def reference(self) -> str:
        """The last answer."""
        return self.turns[-1].content

    @property
    def question(self) -> str:
        """What the user said last."""
        return self.turns[-2].content
