"""Batched generation against the same prompts one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from tuneline.modeling.generation import generate

VOCABULARY = 61


@dataclass(frozen=True)
class Stops:
    """A tokenizer's stop and pad tokens, no more."""

    end_of_turn_ids: frozenset[int] = frozenset()
    pad_id: int = 0


def llama() -> PreTrainedModel:
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,  # strong attention: what a row sees decides what it says
    )
    return LlamaForCausalLM(config).eval()


def gemma_with_sliding_window() -> PreTrainedModel:
    torch.manual_seed(5)
    config = Gemma3TextConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=64,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention"],
        initializer_range=0.5,
    )
    return Gemma3ForCausalLM(config).eval()


PROMPTS = [[(7 * row + 3 * place) % (VOCABULARY - 1) + 1 for place in range(length)] for row, length in enumerate([2, 17, 5, 5, 11, 1, 23])]


def alone(model: PreTrainedModel, prompt: Sequence[int], max_tokens: int, stops: frozenset[int] = frozenset()) -> list[int]:
    """The same answer the slow, plain way: no batch, no padding, no cache."""
    answer: list[int] = []
    with torch.inference_mode():
        while len(answer) < max_tokens:
            token = int(model(torch.tensor([[*prompt, *answer]])).logits[0, -1].argmax())
            if token in stops:
                break
            answer.append(token)
    return answer


@pytest.mark.parametrize("make", [llama, gemma_with_sliding_window])
def test_a_batch_of_unequal_prompts_gives_every_prompt_the_answer_it_gets_alone(make: Callable[[], PreTrainedModel]) -> None:
    model = make()
    expected = [alone(model, prompt, 12) for prompt in PROMPTS]
    assert generate(model, Stops(), PROMPTS, max_tokens=12) == expected
    assert len({tuple(answer) for answer in expected}) == len(PROMPTS), "equal answers would prove nothing"


def test_the_comparison_would_notice_if_padding_were_seen() -> None:
    model = llama()
    width = max(map(len, PROMPTS))
    padded = [[0] * (width - len(prompt)) + prompt for prompt in PROMPTS]
    wrong = generate(model, Stops(), padded, max_tokens=12)
    right = generate(model, Stops(), PROMPTS, max_tokens=12)
    assert all(a != b for a, b, prompt in zip(wrong, right, PROMPTS, strict=True) if len(prompt) < width)


def test_rows_that_end_early_leave_the_others_unchanged() -> None:
    model = llama()
    free = [alone(model, prompt, 12) for prompt in PROMPTS]
    stops = frozenset({free[0][3], free[1][7], free[4][1]})
    expected = [alone(model, prompt, 12, stops) for prompt in PROMPTS]
    assert generate(model, Stops(stops), PROMPTS, max_tokens=12) == expected
    assert len({len(answer) for answer in expected}) > 2, "rows must end at different times"
    assert not stops & {token for answer in expected for token in answer}


def test_small_batches_give_the_same_answers_in_the_callers_order() -> None:
    model, done = llama(), list[int]()
    small = generate(model, Stops(), PROMPTS, max_tokens=6, tokens_per_batch=24, report=done.append)
    assert small == generate(model, Stops(), PROMPTS, max_tokens=6)
    assert len(done) > 3
    assert done[-1] == len(PROMPTS)
    assert done == sorted(done)


def test_an_answer_ends_where_the_context_is_full() -> None:
    model = llama()
    nearly_full, full, short = [1] * 60, [2] * 64, [3, 4]
    answers = generate(model, Stops(), [nearly_full, full, short], max_tokens=10)
    assert [len(answer) for answer in answers] == [4, 0, 10]


def test_settings_of_the_checkpoint_do_not_change_greedy_answers() -> None:
    model = llama()
    plain = generate(model, Stops(), PROMPTS, max_tokens=6)
    model.generation_config.repetition_penalty = 50.0
    model.generation_config.max_new_tokens = 1
    assert generate(model, Stops(), PROMPTS, max_tokens=6) == plain


def test_no_prompts_give_no_answers_and_an_empty_prompt_is_refused() -> None:
    model = llama()
    assert generate(model, Stops(), [], max_tokens=3) == []
    assert generate(model, Stops(), [[1]], max_tokens=0) == [[]]
    with pytest.raises(ValueError, match="no token"):
        generate(model, Stops(), [[1], []], max_tokens=3)
