"""Tiny random models, tokenizers and data sets for tests: no download, milliseconds a step."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, PreTrainedModel

from tuneline.data.dataset import TokenDataset
from tuneline.modeling import attention

CONTROL_TOKENS = ("<|begin_of_text|>", "<|end_of_text|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end_of_turn|>")
VOCABULARY = len(CONTROL_TOKENS) + 256
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|end_of_turn|>{% endgeneration %}"
    "{% else %}{{ message['content'] }}<|end_of_turn|>{% endif %}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def byte_tokenizer() -> Tokenizer:
    """The control tokens, then one token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate([*CONTROL_TOKENS, *alphabet])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(CONTROL_TOKENS))
    return tokenizer


def llama_configuration(*, tied: bool = True, layers: int = 2) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=6, pad_token_id=2,
    )  # fmt: skip


def random_model(configuration: PreTrainedConfig, *, packed: bool, seed: int = 0) -> PreTrainedModel:
    """Weights large enough that attention is far from uniform: leaks between documents must show."""
    attention.register()
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(configuration, attn_implementation=attention.PACKED if packed else "eager").float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(0, 0.15)
    return model


def write_base(folder: Path, *, tied: bool = True, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Path:
    """A base model's folder: a tiny random Llama with a byte tokenizer."""
    model = random_model(llama_configuration(tied=tied), packed=False, seed=seed).to(dtype)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    byte_tokenizer().save(str(folder / "tokenizer.json"))
    configuration = {
        "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_turn|>", "pad_token": "<|pad|>",
        "model_max_length": 256,
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
    return folder


def random_dataset(lengths: Sequence[int], seed: int = 0, vocabulary: int = VOCABULARY) -> TokenDataset:
    """Random tokens; about the second half of each example is trained on."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    mask = np.concatenate([np.arange(length) >= length // 2 for length in lengths])
    return TokenDataset(
        input_ids=generator.integers(len(CONTROL_TOKENS), vocabulary, int(offsets[-1])).astype(np.int32),
        loss_mask=mask.astype(np.uint8),
        offsets=offsets,
        lines=np.arange(1, len(lengths) + 1, dtype=np.int64),
    )
