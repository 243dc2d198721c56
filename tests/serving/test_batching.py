from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from transformers import Gemma3TextConfig, MistralConfig, PreTrainedModel, Qwen3Config

from tests.modeling.tiny_model import llama_configuration, random_model
from tests.serving.answers import Answer, alone, ask, prompts
from tuneline.errors import InfrastructureError
from tuneline.serving import batching
from tuneline.serving.batching import Batcher, capacity_tokens, processor_arguments
from tuneline.serving.prompts import Sampling

NO_END = frozenset[int]()
SHAPE = {
    "vocab_size": 263, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}  # fmt: skip
MIXED = {
    "num_hidden_layers": 3, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "sliding_window": 16, "head_dim": 16,
    "tie_word_embeddings": False,
}  # fmt: skip
CONFIGURATIONS = {
    "llama": llama_configuration(),
    "mistral": MistralConfig(**SHAPE, sliding_window=16),
    "qwen3": Qwen3Config(**SHAPE, head_dim=16),
    "gemma3": Gemma3TextConfig(**SHAPE | MIXED),
}


class Started:
    """Batchers that are closed with the test: their threads would keep the process alive."""

    def __init__(self) -> None:
        self.batchers: list[Batcher] = []

    def __call__(self, model: PreTrainedModel, *, end_ids: frozenset[int] = NO_END, capacity: int = 2048) -> Batcher:
        batcher = Batcher(model, end_ids=end_ids, capacity_tokens=capacity)
        self.batchers.append(batcher)
        return batcher


@pytest.fixture
def start() -> Iterator[Started]:
    started = Started()
    yield started
    for batcher in started.batchers:
        batcher.close()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return random_model(CONFIGURATIONS["llama"], packed=False)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("capacity", [2048, 200])
def test_everybody_gets_the_answer_that_they_would_get_alone(name: str, capacity: int, start: Started) -> None:
    model = random_model(CONFIGURATIONS[name], packed=False)
    assert model.config._attn_implementation == "eager"
    lengths = [1, 2, 24, 9, 24, 3, 17, 24] * 2
    expected = [alone(model, prompt, length) for prompt, length in zip(prompts(16), lengths, strict=True)]
    assert len({token for tokens in expected for token in tokens}) > 20  # else equality would say little
    batcher = start(model, capacity=capacity)
    answers = [ask(batcher, prompt, length) for prompt, length in zip(prompts(16), lengths, strict=True)]
    assert [answer.wait() for answer in answers] == expected
    assert {answer.end for answer in answers} == {"length"}


def test_a_prompt_that_is_longer_than_a_batch_is_read_in_parts(start: Started, monkeypatch: pytest.MonkeyPatch, model: PreTrainedModel) -> None:
    monkeypatch.setattr(batching, "BATCH_TOKENS", 16)
    long = [7 + index % 250 for index in range(100)]
    expected = [alone(model, prompt, 12) for prompt in (long, [9, 10], long)]
    batcher = start(model)
    answers = [ask(batcher, prompt, 12) for prompt in (long, [9, 10], long)]
    assert [answer.wait() for answer in answers] == expected


def test_who_comes_later_joins_those_that_are_being_answered(start: Started, model: PreTrainedModel) -> None:
    long, short = prompts(2)
    expected = [alone(model, long, 120), alone(model, short, 4)]
    batcher = start(model)
    first = ask(batcher, long, 120)
    assert first.has_begun.wait(60)
    second = ask(batcher, short, 4)
    assert [first.wait(), second.wait()] == expected
    assert second.ended_at < first.ended_at


def test_an_answer_stops_at_any_end_of_the_turn_and_not_at_that_of_the_model(start: Started, model: PreTrainedModel) -> None:
    one, other = prompts(2)
    expected = [alone(model, prompt, 24) for prompt in (one, other)]
    ends = [next(token for token in mine[5:] if token not in theirs) for mine, theirs in (expected, expected[::-1])]
    batcher = start(model, end_ids=frozenset(ends))
    answers = [ask(batcher, prompt, 24) for prompt in (one, other)]
    assert [answer.wait() for answer in answers] == [tokens[: tokens.index(end) + 1] for tokens, end in zip(expected, ends, strict=True)]
    assert [answer.end for answer in answers] == ["stop", "stop"]


def test_sampling_is_each_answers_own(start: Started, model: PreTrainedModel) -> None:
    prompt = prompts(1)[0]
    greedy = alone(model, prompt, 12)
    batcher = start(model)
    hot = Sampling(temperature=1.5)
    first, second = ask(batcher, prompt, 12, hot), ask(batcher, prompt, 12, hot)
    alike = [Sampling(), replace(hot, top_k=1), replace(hot, top_p=1e-6), Sampling(temperature=1e-30)]
    answers = [ask(batcher, prompt, 12, sampling) for sampling in alike]
    assert [answer.wait() for answer in answers] == [greedy] * 4
    assert len({tuple(first.wait()), tuple(second.wait()), tuple(greedy)}) == 3


def test_temperature_top_k_and_top_p_give_the_distribution_that_they_promise(start: Started, model: PreTrainedModel) -> None:
    prompt = prompts(1)[0]
    with torch.no_grad():
        probabilities = (model(torch.tensor([prompt])).logits[0, -1] / 1.5).softmax(-1)
    likeliest = probabilities.argsort(descending=True).tolist()
    reach = int((probabilities.sort(descending=True).values.cumsum(-1) < 0.5).sum()) + 1
    assert 3 < reach < 100
    batcher = start(model)

    def drawn(**sampling: float) -> Counter[int]:
        answers = [ask(batcher, prompt, 1, Sampling(temperature=1.5, **sampling)) for _ in range(300)]  # type: ignore[arg-type]
        return Counter(answer.wait()[0] for answer in answers)

    three, half, free = drawn(top_k=3), drawn(top_p=0.5), drawn()
    assert set(three) == set(likeliest[:3])
    assert set(half) <= set(likeliest[:reach])
    assert len(half) > 3
    assert len(free) > len(half)
    share = float(probabilities[likeliest[0]] / probabilities[likeliest[:3]].sum())
    assert three[likeliest[0]] / 300 == pytest.approx(share, abs=0.12)  # four standard deviations


def test_a_top_k_larger_than_the_vocabulary_is_all_of_it() -> None:
    assert processor_arguments(Sampling(temperature=0.5, top_k=10**6), 263) == {"temperature": 0.5, "top_k": 263, "top_p": 1.0}


def test_equally_likely_tokens_do_not_make_a_greedy_answer_random(start: Started) -> None:
    model = random_model(CONFIGURATIONS["llama"], packed=False)
    with torch.no_grad():
        model.get_output_embeddings().weight.zero_()
    batcher = start(model)
    assert len({tuple(ask(batcher, [9, 10], 8).wait()) for _ in range(3)}) == 1


def test_a_cancelled_answer_makes_room(start: Started, model: PreTrainedModel) -> None:
    batcher = start(model, capacity=250)
    endless, never = Answer(), Answer()
    generation = batcher.submit(prompts(1)[0], 200, Sampling(), endless.deliver)
    assert endless.has_begun.wait(60)
    unwanted = batcher.submit([9, 10], 200, Sampling(), never.deliver)
    waiting = ask(batcher, [9, 10], 200)
    batcher.cancel(unwanted)
    batcher.cancel(generation)
    batcher.cancel(generation)
    assert len(waiting.wait()) == 200
    assert not endless.has_ended.is_set()
    assert not never.has_begun.is_set()


def test_an_error_of_the_generation_thread_is_told_to_everybody(start: Started, model: PreTrainedModel) -> None:
    batcher = start(model, capacity=200)
    assert batcher.is_healthy
    answers = [ask(batcher, prompt, 100) for prompt in ([10**6], [9], [9])]  # the first has a token that does not exist
    for answer in answers:
        answer.wait()
    assert {answer.end for answer in answers} == {"failed"}
    assert not batcher.is_healthy
    with pytest.raises(InfrastructureError, match="a generation step failed"):
        ask(batcher, [9], 1)


def test_closing_tells_everybody_who_waits(start: Started, model: PreTrainedModel) -> None:
    batcher = start(model, capacity=200)
    answers = [ask(batcher, prompt, 100) for prompt in prompts(4)]
    batcher.close()
    assert [answer.end for answer in answers] == ["failed"] * 4
    with pytest.raises(InfrastructureError, match="stopping"):
        ask(batcher, [9], 1)


def test_nobody_can_fill_the_queue_for_ever(start: Started, model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_WAITING", 2)
    batcher = start(model, capacity=201)
    running = ask(batcher, [9], 200)
    answers = [ask(batcher, [9], 1), ask(batcher, [9], 1)]
    with pytest.raises(InfrastructureError, match="already being waited for"):
        ask(batcher, [9], 1)
    assert [len(answer.wait()) for answer in answers] == [1, 1]
    assert len(running.wait()) == 200


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_cache_takes_no_more_memory_than_it_may(name: str) -> None:
    model = random_model(CONFIGURATIONS[name], packed=False)
    tokens = capacity_tokens(model, 1 << 24)
    manager = batching._manager(model, NO_END, tokens // batching.PAGE_TOKENS)
    processor = manager._create_batch_processor()
    masks = processor.inputs_and_outputs.attention_mask or {}
    taken = processor.cache.cache_tensor.nbytes + sum(mask.nbytes for mask in masks.values())
    assert 0.5 < taken / (1 << 24) < 1.2  # two pages, and the columns of one batch, come on top
