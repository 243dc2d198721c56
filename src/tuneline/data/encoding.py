"""Turns a stream of examples into tokens, batch by batch, and deals with those that are longer than the base model reads.

Reading and rendering of one batch go on while the tokenizer, which needs no interpreter lock, works at the one before.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from tuneline.data.conversation import Conversation
from tuneline.data.examples import Example
from tuneline.data.problems import ExampleError, Finding, Problems
from tuneline.data.tokens import ChatTokenizer, Encoded

OverlengthPolicy = Literal["error", "drop", "truncate"]

BATCH_EXAMPLES = 256
BATCH_CHARACTERS = 2_000_000
"""Bounds memory when single examples are huge."""


class EncodedExample(NamedTuple):
    """An example and its tokens."""

    line: int
    conversation: Conversation
    encoded: Encoded


@dataclass(kw_only=True)
class ExampleEncoder:
    """Encodes the examples of one file and remembers what was dropped and cut."""

    tokenizer: ChatTokenizer
    max_sequence_length: int
    policy: OverlengthPolicy = "error"
    dropped_lines: list[int] = field(default_factory=list)
    truncated_lines: list[int] = field(default_factory=list)

    def encode(self, examples: Iterable[Example], problems: Problems, report: Callable[[], None] = lambda: None) -> Iterator[EncodedExample]:
        """The examples with their tokens, in order; `report` is called after each batch."""
        with ThreadPoolExecutor(1) as worker:
            waiting = None
            for batch in _batches(examples):
                running = worker.submit(self.tokenizer.encode_batch, [example.conversation for example in batch])
                if waiting:
                    yield from self._kept(waiting[0], waiting[1].result(), problems)
                    report()
                waiting = (batch, running)
            if waiting:
                yield from self._kept(waiting[0], waiting[1].result(), problems)
                report()

    def _kept(self, batch: list[Example], results: list[Encoded | ExampleError], problems: Problems) -> Iterator[EncodedExample]:
        for example, result in zip(batch, results, strict=True):
            if isinstance(result, ExampleError):
                problems.add(example.line, Finding("", result.rule, str(result)))
                continue
            encoded = result if len(result.input_ids) <= self.max_sequence_length else self._shortened(example.line, result, problems)
            if encoded:
                yield EncodedExample(example.line, example.conversation, encoded)

    def _shortened(self, line: int, encoded: Encoded, problems: Problems) -> Encoded | None:
        """What the policy leaves of an example that is too long."""
        if self.policy == "error":
            message = (
                f"{len(encoded.input_ids):,} tokens; this base model reads at most {self.max_sequence_length:,}. "
                "Shorten the example, or set overlength_policy to 'drop' or 'truncate'."
            )
            problems.add(line, Finding("", "too-long", message))
            return None
        cut = Encoded(encoded.input_ids[: self.max_sequence_length], encoded.loss_mask[: self.max_sequence_length])
        if self.policy == "drop" or True not in cut.loss_mask:  # cut within the prompt, nothing would be learned
            self.dropped_lines.append(line)
            return None
        self.truncated_lines.append(line)
        return cut


def _batches(examples: Iterable[Example]) -> Iterator[list[Example]]:
    batch: list[Example] = []
    characters = 0
    for example in examples:
        batch.append(example)
        characters += sum(len(turn.content) for turn in example.conversation.turns)
        if len(batch) == BATCH_EXAMPLES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
