from collections.abc import Callable

import pytest
import torch
from transformers import Gemma2Config, Gemma3TextConfig, MistralConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from tests.modeling.tiny_model import VOCABULARY, llama_configuration, random_model

LENGTHS = (23, 1, 40, 12)
SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "max_position_embeddings": 256, "pad_token_id": 2,
}  # fmt: skip
# A window of 8 and caps of a few units: small enough to change the result of the longer documents.
CONFIGURATIONS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": llama_configuration,
    "qwen2": lambda: Qwen2Config(**SHAPE),
    "qwen3": lambda: Qwen3Config(**SHAPE, head_dim=16),
    "mistral with a window": lambda: MistralConfig(**SHAPE, sliding_window=8),
    "gemma2": lambda: Gemma2Config(**SHAPE, head_dim=16, sliding_window=8, attn_logit_softcapping=2.0, final_logit_softcapping=3.0),
    "gemma3": lambda: Gemma3TextConfig(**SHAPE, head_dim=16, sliding_window=8, layer_types=["sliding_attention", "full_attention"]),
}


def documents() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(7, VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def hidden_alone(configuration: PreTrainedConfig) -> torch.Tensor:
    """Every document by itself, with the attention of transformers."""
    model = random_model(configuration, packed=False)
    with torch.no_grad():
        return torch.cat([model(input_ids=document[None], use_cache=False).logits[0] for document in documents()])


def hidden_packed(configuration: PreTrainedConfig, lengths: tuple[int, ...], positions: torch.Tensor) -> torch.Tensor:
    model = random_model(configuration, packed=True)
    with torch.no_grad():
        return model(input_ids=torch.cat(documents())[None], position_ids=positions[None], use_cache=False, document_lengths=lengths).logits[0]


RESTARTING = torch.cat([torch.arange(length) for length in LENGTHS])


@pytest.mark.parametrize("configuration", CONFIGURATIONS.values(), ids=CONFIGURATIONS.keys())
def test_a_packed_row_gives_each_document_the_logits_it_has_alone(configuration: Callable[[], PreTrainedConfig]) -> None:
    difference = hidden_packed(configuration(), LENGTHS, RESTARTING) - hidden_alone(configuration())
    assert difference.abs().max() <= 1e-4


def test_a_row_that_attends_across_documents_is_told_apart() -> None:
    difference = hidden_packed(llama_configuration(), (sum(LENGTHS),), RESTARTING) - hidden_alone(llama_configuration())
    assert difference[: LENGTHS[0]].abs().max() <= 1e-4
    assert difference[LENGTHS[0] :].abs().max() > 0.1


@pytest.mark.parametrize("name", ["mistral with a window", "gemma2", "gemma3"])
def test_a_window_that_is_not_applied_is_told_apart(name: str) -> None:
    unlimited = CONFIGURATIONS[name]()
    unlimited.sliding_window = 256
    difference = hidden_packed(unlimited, LENGTHS, RESTARTING) - hidden_alone(CONFIGURATIONS[name]())
    assert difference.abs().max() > 1e-2


def test_a_cap_that_is_not_applied_is_told_apart() -> None:
    uncapped = CONFIGURATIONS["gemma2"]()
    uncapped.attn_logit_softcapping = None
    difference = hidden_packed(uncapped, LENGTHS, RESTARTING) - hidden_alone(CONFIGURATIONS["gemma2"]())
    assert difference.abs().max() > 1e-2
