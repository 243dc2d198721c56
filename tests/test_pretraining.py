"""The embedded base model is what its page says, and has not read what it is measured on."""

import functools
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from pretraining.bits_per_byte import EMBEDDED, nats
from pretraining.corpus import held_out_sources, library_tests, training_sources
from tuneline.data.from_code import Selection, is_held_out

ROOT = Path(__file__).parents[1]


@functools.cache
def held_out() -> dict[str, str]:
    """The whole library is parsed for it, so once is enough."""
    return dict(held_out_sources())


def test_it_is_a_small_llama_in_bf16() -> None:
    with safe_open(EMBEDDED / "model.safetensors", "pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118 (not a dictionary)
    assert {tensor.dtype for tensor in tensors} == {torch.bfloat16}
    assert sum(tensor.numel() for tensor in tensors) <= 5_500_000
    assert (EMBEDDED / "model.safetensors").stat().st_size <= 12_000_000
    assert json.loads((EMBEDDED / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]


def test_no_held_out_module_is_in_the_corpus() -> None:
    read = {name for sources in (training_sources(), library_tests()) for name, _ in sources}
    assert len(held_out()) > 40
    assert len(read) > 600
    assert not held_out().keys() & read
    assert not {name for name in read if not name.startswith("test.") and is_held_out(name, Selection().evaluation_fraction)}
    assert "test.test_queue" not in read


def test_the_evaluation_examples_come_from_held_out_modules_only() -> None:
    rows = [json.loads(line)["input_text"] for line in (ROOT / "examples/stdlib-code/evaluation.jsonl").read_text(encoding="utf-8").splitlines()]
    modules = {row.partition("module `")[2].partition("`")[0] for row in rows}
    assert len(modules) > 30
    assert modules <= held_out().keys()


@pytest.mark.parametrize("module", ["queue", "wsgiref.util", "json"])
def test_it_models_held_out_modules_within_the_bound(module: str) -> None:
    """Three small ones; `python -m pretraining.bits_per_byte` measures all."""
    source = held_out()[module]
    tokenizer = Tokenizer.from_file(str(EMBEDDED / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(EMBEDDED, dtype=torch.float32).eval()
    total = nats(model, tokenizer.encode(source, add_special_tokens=False).ids, tokenizer.token_to_id("<|begin_of_text|>"))
    assert total / math.log(2) / len(source.encode()) <= 1.4
