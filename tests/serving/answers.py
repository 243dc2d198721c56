"""What an engine delivers, and what it should have delivered."""

import random
import threading
import time
from collections.abc import Sequence

import torch
from transformers import PreTrainedModel

from tuneline.serving.engine import End, Engine
from tuneline.serving.prompts import Sampling


class Answer:
    """What one generation delivers."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.end: End | None = None
        self.has_begun = threading.Event()
        self.has_ended = threading.Event()

    def deliver(self, token: int | None, end: End | None) -> None:
        assert not self.has_ended.is_set()
        self.tokens += [] if token is None else [token]
        self.ended_at = time.monotonic()
        self.end = end
        self.has_begun.set()
        if end is not None:
            self.has_ended.set()

    def wait(self) -> list[int]:
        assert self.has_ended.wait(60)
        return self.tokens


def ask(engine: Engine, prompt: Sequence[int], max_tokens: int, sampling: Sampling = Sampling()) -> Answer:
    answer = Answer()
    engine.submit(prompt, max_tokens, sampling, answer.deliver)
    return answer


def alone(model: PreTrainedModel, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """The greedy answer as transformers gives it. Not while a batcher runs: it owns the model."""
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=2)
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def prompts(number: int, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(7, 263) for _ in range(draw.randrange(1, 50))] for _ in range(number)]
