"""What the routes share: the model once it is loaded, its names, and when anybody last wanted something."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuneline.errors import InfrastructureError, UserError
from tuneline.serving.openai_protocol import CompletionRequest
from tuneline.serving.prompts import Completion, Prompt

if TYPE_CHECKING:  # the tokenizer takes a while to load, and the server answers before
    from tuneline.serving.predictor import Predictor, ReadyPrompt

MAX_ANSWERS = 256
"""Of one request, so that nobody fills the queue alone."""
FAILED = "a generation step failed; the server's log has the reason. Start the server again."


@dataclass(kw_only=True)
class Service:
    """One endpoint's model and its clients."""

    endpoint_id: str
    deployed_model_id: str
    model_resource_name: str
    display_name: str
    predictor: "Predictor | None" = None
    num_active: int = 0
    last_active: float = field(default_factory=time.monotonic)

    @property
    def model_names(self) -> list[str]:
        """The names under which a client may ask for the model, the usual one first."""
        return [name for name in (self.display_name, self.model_resource_name, self.endpoint_id) if name] or ["model"]

    @property
    def idle_seconds(self) -> float:
        return 0.0 if self.num_active else time.monotonic() - self.last_active

    @contextlib.contextmanager
    def busy(self) -> Iterator[None]:
        """Somebody is being served."""
        self.num_active += 1
        try:
            yield
        finally:
            self.num_active -= 1
            self.touch()

    def touch(self) -> None:
        """Being idle begins now."""
        self.last_active = time.monotonic()

    def ready(self) -> "Predictor":
        """The model, or the error that it is not there yet."""
        if self.predictor is None:
            raise InfrastructureError("the model is being loaded; try again in a moment.")
        return self.predictor

    def check_health(self) -> None:
        """Raise when answers cannot be expected."""
        if not self.ready().is_healthy:
            raise InfrastructureError(FAILED)

    async def prepare(self, prompts: Sequence[Prompt]) -> "list[list[ReadyPrompt]]":
        """Each prompt once for each of its answers. Tokenizing is left to a thread, so that others are not kept waiting."""
        num_answers = sum(prompt.num_answers for prompt in prompts)
        if num_answers > MAX_ANSWERS:
            raise UserError(f"{num_answers} answers in one request; expected at most {MAX_ANSWERS}. Send several requests.")
        ready = await asyncio.to_thread(self.ready().prepare, prompts)
        return [[item.for_answer(index) for index in range(prompt.num_answers)] for item, prompt in zip(ready, prompts, strict=True)]

    async def answer(self, prompts: Sequence[Prompt]) -> list[list[Completion]]:
        """All answers of all prompts, made side by side."""
        with self.busy():
            groups = await self.prepare(prompts)
            try:
                async with asyncio.TaskGroup() as tasks:
                    answers = [[tasks.create_task(self.ready().complete(item)) for item in group] for group in groups]
            except ExceptionGroup as group:  # the first to fail has stopped the others
                raise group.exceptions[0] from None
            return [[task.result() for task in tasks_of_one] for tasks_of_one in answers]

    async def stream(self, asked: CompletionRequest, groups: "Sequence[Sequence[ReadyPrompt]]") -> AsyncGenerator[dict[str, object], None]:
        """The events of a streamed request, one answer after the other."""
        request_id, index = new_id(), 0
        answers: list[list[Completion]] = []
        with self.busy():
            for group in groups:
                answers.append([])
                for item in group:
                    yield asked.event(request_id, index, "", None, is_first=True)
                    num_tokens = 0
                    async with aclosing(self.ready().stream(item)) as pieces:
                        async for piece in pieces:
                            num_tokens = piece.output_tokens
                            yield asked.event(request_id, index, piece.text, piece.finish_reason)
                    answers[-1].append(Completion(text="", finish_reason="stop", prompt_tokens=len(item.ids), output_tokens=num_tokens))
                    index += 1
            if asked.include_usage:
                yield asked.last_event(request_id, answers)


def new_id() -> str:
    """A name for one answer."""
    return f"tuneline-{uuid.uuid4().hex}"
