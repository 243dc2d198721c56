"""A tuned model that answers: prompts become the very tokens that training made of them, answers become text."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace

from tuneline.data.conversation import Turn
from tuneline.data.tokens import ChatTokenizer
from tuneline.errors import InfrastructureError, UserError
from tuneline.serving.engine import End, Engine
from tuneline.serving.prompts import DEFAULT_MAX_TOKENS, Completion, FinishReason, Prompt, Sampling
from tuneline.serving.text_stream import TextStream


@dataclass(frozen=True, kw_only=True)
class ReadyPrompt:
    """A prompt as tokens, with an answer length that fits the model."""

    ids: Sequence[int]
    max_tokens: int
    sampling: Sampling

    def for_answer(self, index: int) -> "ReadyPrompt":
        """The same for one of several answers: one seed must not make them all alike."""
        seed = self.sampling.seed
        return self if seed is None or index == 0 else replace(self, sampling=replace(self.sampling, seed=seed + index))


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of an answer; the last one says why it is the last."""

    text: str
    finish_reason: FinishReason | None
    output_tokens: int


class Predictor:
    """Answers prompts, many at a time."""

    def __init__(self, engine: Engine, tokenizer: ChatTokenizer, context_length: int) -> None:
        self.context_length = context_length
        self._tokenizer = tokenizer
        self._engine = engine

    @property
    def is_healthy(self) -> bool:
        return self._engine.is_healthy

    def prepare(self, prompts: Sequence[Prompt]) -> list[ReadyPrompt]:
        """The prompts as tokens. Raises one `UserError` that names every prompt that does not fit."""
        problems: list[str] = []
        ready = []
        for prompt in prompts:
            ids = self._tokenizer.encode_prompt(prompt.turns)
            room = self.context_length - len(ids)
            problems += (f"{prompt.where}: {problem}" for problem in self._problems(prompt.sampling, ids, room))
            asked = prompt.sampling.max_tokens
            ready.append(ReadyPrompt(ids=ids, max_tokens=asked or min(DEFAULT_MAX_TOKENS, room), sampling=prompt.sampling))
        if problems:
            raise UserError(*problems)
        return ready

    def _problems(self, sampling: Sampling, ids: Sequence[int], room: int) -> Iterator[str]:
        asked = sampling.max_tokens
        if room < 1 or (asked or 1) > room:
            wanted = f" and {asked} tokens of answer (max_tokens, maxOutputTokens) are asked for" if asked else ""
            advice = f"ask for at most {room}" if room > 0 else "shorten the prompt"
            yield f"the prompt has {len(ids)} tokens{wanted}; the context holds {self.context_length}: {advice}."
        # A token without an embedding is an error in the forward pass, which ends an engine for all.
        if max(ids, default=0) >= self._engine.vocabulary_size:
            yield f"the prompt has the token {max(ids)}; the model knows {self._engine.vocabulary_size} tokens. Leave out what its tokenizer has in addition."
        if sampling.seed is not None and sampling.temperature > 0 and not self._engine.takes_seeds:
            yield "a seed is not supported with a temperature above 0: all answers are drawn from one source. Temperature 0 repeats itself."

    async def stream(self, prompt: ReadyPrompt, *, in_pieces: bool = True) -> AsyncGenerator[Piece, None]:
        """The answer, in pieces as it grows or in one. Leaving early stops its making."""
        events: asyncio.Queue[tuple[int | None, End | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        text = TextStream(self._tokenizer.decode, prompt.sampling.stop)
        generation = self._engine.submit(prompt.ids, prompt.max_tokens, prompt.sampling, lambda token, end: _pass_on(loop, events, token, end))
        num_tokens = 0
        try:
            while True:
                token, end = await events.get()
                if end == "failed":
                    raise InfrastructureError("the answer was lost: the server is stopping or a generation step failed; see its log.")
                num_tokens += token is not None
                piece = ""
                if token is not None and end != "stop":
                    text.add(token)
                    # Decoding the growing text again for each token is only done for those who look at it.
                    piece = text.take() if in_pieces or prompt.sampling.stop else ""
                if text.is_stopped:
                    end = "stop"
                if end is not None:
                    yield Piece(text=piece + text.take_rest(), finish_reason=end, output_tokens=num_tokens)
                    return
                if piece:
                    yield Piece(text=piece, finish_reason=None, output_tokens=num_tokens)
        finally:
            self._engine.cancel(generation)

    async def complete(self, prompt: ReadyPrompt) -> Completion:
        """The whole answer."""
        pieces = [piece async for piece in self.stream(prompt, in_pieces=False)]
        last = pieces[-1]
        return Completion(
            text="".join(piece.text for piece in pieces),
            finish_reason=last.finish_reason or "stop",
            prompt_tokens=len(prompt.ids),
            output_tokens=last.output_tokens,
        )

    def close(self) -> None:
        self._engine.close()

    def warm_up(self) -> None:
        """Answer once: whoever asks next does not pay for what only the first answer needs."""
        [prompt] = self.prepare([Prompt(where="warm-up", turns=(Turn("user", "Hello"),), sampling=Sampling(max_tokens=2))])
        ended: list[End] = []
        has_ended = threading.Event()

        def deliver(_token: int | None, end: End | None) -> None:
            if end is not None:
                ended.append(end)
                has_ended.set()

        self._engine.submit(prompt.ids, prompt.max_tokens, prompt.sampling, deliver)
        has_ended.wait()
        if ended == ["failed"]:
            raise InfrastructureError("the model loads but cannot generate; the log has the reason.")


def _pass_on(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[tuple[int | None, End | None]]", token: int | None, end: End | None) -> None:
    """From the engine's thread to the event loop; a loop that has ended wants nothing any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, (token, end))
