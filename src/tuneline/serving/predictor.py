"""A tuned model that answers: prompts become the very tokens that training made of them, answers become text."""

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from tuneline.data.conversation import Turn
from tuneline.data.tokens import ChatTokenizer, load_tokenizer
from tuneline.errors import InfrastructureError, UserError
from tuneline.modeling.loading import load_model
from tuneline.serving.batching import MAX_RUNNING, Batcher, End, capacity_tokens
from tuneline.serving.prompts import DEFAULT_MAX_TOKENS, Completion, FinishReason, Prompt, Sampling
from tuneline.serving.text_stream import TextStream

CACHE_BYTES = 512 << 20
"""Keys and values of all answers in the making, on a CPU. It bounds the context, too."""
CACHE_SHARE = 0.5
"""The same as a share of the GPU memory that the model leaves free."""


@dataclass(frozen=True, kw_only=True)
class ReadyPrompt:
    """A prompt as tokens, with an answer length that fits the model."""

    ids: Sequence[int]
    max_tokens: int
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A part of an answer; the last one says why it is the last."""

    text: str
    finish_reason: FinishReason | None
    output_tokens: int


class Predictor:
    """Answers prompts, many at a time."""

    def __init__(self, model: PreTrainedModel, tokenizer: ChatTokenizer, context_length: int) -> None:
        capacity = min(capacity_tokens(model, _cache_bytes(model)), MAX_RUNNING * context_length)
        self.context_length = min(context_length, capacity)
        self._tokenizer = tokenizer
        self._batcher = Batcher(model, end_ids=tokenizer.end_of_turn_ids, capacity_tokens=capacity)

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """The model in `folder`, after it has answered once: whoever asks next does not pay for what only the first answer needs."""
        on_gpu = torch.cuda.is_available()
        dtype, device = (torch.bfloat16, torch.device("cuda")) if on_gpu else (torch.float32, torch.device("cpu"))
        tokenizer = load_tokenizer(folder)
        model = load_model(folder, packed=False, dtype=dtype, device=device)
        predictor = cls(model, tokenizer, _context_length(model, folder))
        try:
            predictor._warm_up()
        except BaseException:
            predictor.close()  # its threads would keep the process alive
            raise
        return predictor

    @property
    def is_healthy(self) -> bool:
        return self._batcher.is_healthy

    def prepare(self, prompts: Sequence[Prompt]) -> list[ReadyPrompt]:
        """The prompts as tokens. Raises one `UserError` that names every prompt that does not fit."""
        problems: list[str] = []
        ready = []
        for prompt in prompts:
            ids = self._tokenizer.encode_prompt(prompt.turns)
            room, asked = self.context_length - len(ids), prompt.sampling.max_tokens
            if room < 1 or (asked or 1) > room:
                wanted = f" and {asked} tokens of answer (max_tokens, maxOutputTokens) are asked for" if asked else ""
                advice = f"ask for at most {room}" if room > 0 else "shorten the prompt"
                problems.append(f"{prompt.where}: the prompt has {len(ids)} tokens{wanted}; the context holds {self.context_length}: {advice}.")
            ready.append(ReadyPrompt(ids=ids, max_tokens=asked or min(DEFAULT_MAX_TOKENS, room), sampling=prompt.sampling))
        if problems:
            raise UserError(*problems)
        return ready

    async def stream(self, prompt: ReadyPrompt, *, in_pieces: bool = True) -> AsyncGenerator[Piece, None]:
        """The answer, in pieces as it grows or in one. Leaving early stops its making."""
        events: asyncio.Queue[tuple[int | None, End | None]] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        text = TextStream(self._tokenizer.decode, prompt.sampling.stop)
        generation = self._batcher.submit(prompt.ids, prompt.max_tokens, prompt.sampling, lambda token, end: _pass_on(loop, events, token, end))
        num_tokens = 0
        try:
            while True:
                token, end = await events.get()
                if token is None or end == "failed":
                    raise InfrastructureError("the answer was lost: the server is stopping or a generation step failed; see its log.")
                num_tokens += 1
                piece = ""
                if end != "stop":
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
            self._batcher.cancel(generation)

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
        self._batcher.close()

    def _warm_up(self) -> None:
        [prompt] = self.prepare([Prompt(where="warm-up", turns=(Turn("user", "Hello"),), sampling=Sampling(max_tokens=2))])
        ended: list[End] = []
        has_ended = threading.Event()

        def deliver(_token: int | None, end: End | None) -> None:
            if end is not None:
                ended.append(end)
                has_ended.set()

        self._batcher.submit(prompt.ids, prompt.max_tokens, prompt.sampling, deliver)
        has_ended.wait()
        if ended == ["failed"]:
            raise InfrastructureError("the model loads but cannot generate; the log has the reason.")


def _pass_on(loop: asyncio.AbstractEventLoop, events: "asyncio.Queue[tuple[int | None, End | None]]", token: int | None, end: End | None) -> None:
    """From the batcher's thread to the event loop; a loop that has ended wants nothing any more."""
    if not loop.is_closed():
        loop.call_soon_threadsafe(events.put_nowait, (token, end))


def _context_length(model: PreTrainedModel, folder: Path) -> int:
    """Positions that the model was made for; a tokenizer that knows a smaller number knows what it was trained with."""
    positions = int(model.config.get_text_config().max_position_embeddings)
    tokenizer_config = folder / "tokenizer_config.json"
    limit = json.loads(tokenizer_config.read_text(encoding="utf-8")).get("model_max_length") if tokenizer_config.exists() else None
    return min(positions, int(limit)) if limit else positions


def _cache_bytes(model: PreTrainedModel) -> int:
    return int(torch.cuda.mem_get_info()[0] * CACHE_SHARE) if model.device.type == "cuda" else CACHE_BYTES
