"""A small tokenizer with the control tokens and template of the embedded model, and a model folder around it."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

from pretraining.tokenizer import CHAT_TEMPLATE, CONTROL_TOKENS, PATTERN

WORDS = ("def", "return", "the", "user", "assistant", "Say", "Hello", "again", "function", "Ġreturn", "Ġthe", "Ġa", "Ġb", "Ċ", "ĊĠĠĠĠ", "ĠĠĠĠ", "add", "sum")
NAMED = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_turn|>", "pad_token": "<|pad|>"}


def tiny_tokenizer(control_tokens: tuple[str, ...] = CONTROL_TOKENS) -> Tokenizer:
    """Control tokens, then the bytes, then the beginnings of some words: written down, so that no training can change an id."""
    merges = list(dict.fromkeys((word[:end], word[end]) for word in WORDS for end in range(1, len(word))))
    tokens = [*control_tokens, *sorted(pre_tokenizers.ByteLevel.alphabet()), *("".join(merge) for merge in merges)]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(dict.fromkeys(tokens))}, merges=merges))
    split = pre_tokenizers.Split(Regex(PATTERN), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(control_tokens))
    return tokenizer


def write_tokenizer(folder: Path, *, template: str = CHAT_TEMPLATE, control_tokens: tuple[str, ...] = CONTROL_TOKENS, named: Mapping[str, str] = NAMED) -> Path:
    """A folder with tokenizer and template."""
    folder.mkdir(parents=True, exist_ok=True)
    tiny_tokenizer(control_tokens).save(str(folder / "tokenizer.json"))
    config = {**named, "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 1024}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return folder


def write_model(folder: Path, *, template: str = CHAT_TEMPLATE) -> Path:
    """A folder that passes for a base model as long as nobody loads its weights."""
    write_tokenizer(folder, template=template)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file({"weight": np.zeros(4, dtype=np.float32)}, folder / "model.safetensors")
    return folder
