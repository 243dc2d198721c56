"""What is counted in a data set besides its tokens: characters, messages, and how numbers are spread over the examples."""

from array import array
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tuneline.data.conversation import Conversation

BUCKETS = 10
SHOWN_PROMPTS = 3
SHOWN_CHARACTERS = 1_000


@dataclass(kw_only=True)
class ContentCounts:
    """Counts the text of one file's examples."""

    characters: int = 0
    messages: "array[int]" = field(default_factory=lambda: array("q"))
    """Of each example, without a system turn."""
    first_prompts: list[str] = field(default_factory=list)
    """What the user says first in the first examples, shortened."""

    def add(self, conversation: Conversation) -> None:
        """Count one example."""
        turns = conversation.turns
        self.characters += sum(len(turn.content) for turn in turns)
        self.messages.append(len(turns) - (turns[0].role == "system"))
        if len(self.first_prompts) < SHOWN_PROMPTS:
            self.first_prompts.append(next(turn.content for turn in turns if turn.role == "user")[:SHOWN_CHARACTERS])


def distribution(values: NDArray[np.int64]) -> dict[str, object]:
    """Sum, range, middle and ends of whole numbers, at least one, and a histogram of buckets of equal width."""
    low, high = int(values.min()), int(values.max())
    counts, edges = np.histogram(values, bins=BUCKETS) if low < high else (np.array([len(values)]), np.array([low, high]))
    p5, median, p95 = (float(part) for part in np.percentile(values, (5, 50, 95)))
    buckets = [{"count": int(count), "left": float(left), "right": float(right)} for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True)]
    return {
        "sum": int(values.sum()), "min": low, "max": high, "mean": float(values.mean()), "median": median, "p5": p5, "p95": p95, "buckets": buckets
    }  # fmt: skip
