import random
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from transformers import MistralConfig, PreTrainedModel, Qwen3Config

from tests.modeling.tiny_model import llama_configuration, random_model
from tuneline.errors import InfrastructureError
from tuneline.serving import batching
from tuneline.serving.batching import Batcher, End
from tuneline.serving.prompts import Sampling

NO_END = frozenset[int]()
SHAPE = {
    "vocab_size": 263, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip
CONFIGURATIONS = {"llama": llama_configuration(), "mistral": MistralConfig(**SHAPE, sliding_window=16), "qwen3": Qwen3Config(**SHAPE, head_dim=16)}


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
        self.end = end
        self.has_begun.set()
        if end is not None:
            self.has_ended.set()

    def wait(self) -> list[int]:
        assert self.has_ended.wait(60)
        return self.tokens


def ask(batcher: Batcher, prompt: Sequence[int], max_tokens: int, sampling: Sampling = Sampling()) -> Answer:
    answer = Answer()
    batcher.submit(prompt, max_tokens, sampling, answer.deliver)
    return answer


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return random_model(CONFIGURATIONS["llama"], packed=False)


@pytest.fixture
def batcher(model: PreTrainedModel) -> Iterator[Batcher]:
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=2048)
    yield batcher
    batcher.close()


def alone(model: PreTrainedModel, prompt: Sequence[int], max_tokens: int) -> list[int]:
    """The greedy answer as transformers gives it."""
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=max_tokens, do_sample=False, pad_token_id=2)
    tokens: list[int] = out[0, len(prompt) :].tolist()
    return tokens


def prompts(number: int, seed: int = 0) -> list[list[int]]:
    draw = random.Random(seed)
    return [[draw.randrange(7, 263) for _ in range(draw.randrange(1, 50))] for _ in range(number)]


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("capacity", [2048, 300])
def test_everybody_gets_the_answer_that_they_would_get_alone(name: str, capacity: int) -> None:
    model = random_model(CONFIGURATIONS[name], packed=False)
    lengths = [1, 2, 24, 9, 24, 3, 17, 24]
    expected = [alone(model, prompt, length) for prompt, length in zip(prompts(8), lengths, strict=True)]
    assert len({token for tokens in expected for token in tokens}) > 20  # else equality would say little
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=capacity)
    answers = [ask(batcher, prompt, length) for prompt, length in zip(prompts(8), lengths, strict=True)]
    assert [answer.wait() for answer in answers] == expected
    assert {answer.end for answer in answers} == {"length"}
    batcher.close()


def test_who_comes_later_joins_those_that_are_being_answered(batcher: Batcher, model: PreTrainedModel) -> None:
    long, short = prompts(2)
    first = ask(batcher, long, 120)
    assert first.has_begun.wait(60)
    second = ask(batcher, short, 4)
    assert second.wait() == alone(model, short, 4)
    assert not first.has_ended.is_set()
    assert first.wait() == alone(model, long, 120)


def test_an_answer_stops_at_the_end_of_the_turn(model: PreTrainedModel) -> None:
    prompt = prompts(1)[0]
    expected = alone(model, prompt, 24)
    end = expected[9]
    batcher = Batcher(model, end_ids=frozenset({end}), pad_id=2, capacity_tokens=2048)
    answer = ask(batcher, prompt, 24)
    assert answer.wait() == expected[: expected.index(end) + 1]
    assert answer.end == "stop"
    batcher.close()


def test_sampling_is_each_rows_own_and_a_seed_repeats_it(batcher: Batcher, model: PreTrainedModel) -> None:
    prompt, other = prompts(2)
    hot = Sampling(temperature=1.5, seed=7)
    together = [ask(batcher, prompt, 12, sampling) for sampling in (hot, Sampling(), replace(hot, seed=8))]
    by_seed, greedy, other_seed = [answer.wait() for answer in together]
    assert greedy == alone(model, prompt, 12)
    assert ask(batcher, prompt, 12, hot).wait() == by_seed
    assert len({tuple(by_seed), tuple(greedy), tuple(other_seed)}) == 3
    assert ask(batcher, other, 12, Sampling(temperature=1.5, top_k=1)).wait() == alone(model, other, 12)


def test_top_k_and_top_p_leave_only_the_likeliest_tokens() -> None:
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    generator = torch.Generator().manual_seed(0)

    def drawn(**sampling: float) -> set[int]:
        return {batching._draw(logits, Sampling(temperature=1.0, **sampling), generator) for _ in range(200)}  # type: ignore[arg-type]

    assert drawn() == {0, 1, 2, 3}
    assert drawn(top_k=2) == {0, 1}
    assert drawn(top_p=0.6) == {0, 1}
    assert drawn(top_p=0.9) == {0, 1, 2}
    assert drawn(top_p=0.5, top_k=3) == {0, 1}  # of the three, 4/9 and 3/9 reach a half
    assert drawn(top_p=1e-6) == {0}


def test_a_cancelled_answer_makes_room(model: PreTrainedModel) -> None:
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=250)
    endless = Answer()
    generation = batcher.submit(prompts(1)[0], 200, Sampling(), endless.deliver)
    assert endless.has_begun.wait(60)
    waiting = ask(batcher, [9, 10], 200)
    batcher.cancel(generation)
    assert len(waiting.wait()) == 200
    assert not endless.has_ended.is_set()
    batcher.close()


def test_a_failed_step_is_told_to_those_in_it_and_the_next_ones_are_answered(model: PreTrainedModel) -> None:
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=2048)
    broken = ask(batcher, [10**6], 4)  # no such token
    assert broken.wait() == []
    assert broken.end == "failed"
    health = [batcher.is_healthy]
    for _ in range(2):  # a step is over once the next one has begun
        assert ask(batcher, [9, 10], 4).wait() == alone(model, [9, 10], 4)
    assert [*health, batcher.is_healthy] == [False, True]
    batcher.close()


def test_closing_tells_everybody_who_waits(model: PreTrainedModel) -> None:
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=200)
    answers = [ask(batcher, prompt, 100) for prompt in prompts(4)]
    batcher.close()
    assert [answer.end for answer in answers] == ["failed"] * 4
    with pytest.raises(InfrastructureError, match="stopping"):
        ask(batcher, [9], 1)


def test_nobody_can_fill_the_queue_for_ever(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 2)
    batcher = Batcher(model, end_ids=NO_END, pad_id=2, capacity_tokens=10)
    running = ask(batcher, [9], 200)
    assert running.has_begun.wait(60)
    answers = [ask(batcher, [9], 1), ask(batcher, [9], 1)]
    with pytest.raises(InfrastructureError, match="already being waited for"):
        ask(batcher, [9], 1)
    assert [len(answer.wait()) for answer in answers] == [1, 1]
    batcher.close()
