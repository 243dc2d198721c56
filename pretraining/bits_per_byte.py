"""Measure a model on the held-out standard-library modules: bits per byte of source text.

    python -m pretraining.bits_per_byte [--model FOLDER]

Every token counts once, predicted from 512 to 1,023 tokens before it (fewer only at a file's start).
"""

import argparse
import math
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

from pretraining.corpus import held_out_sources
from pretraining.pretrain import CONTEXT

EMBEDDED = Path(__file__).parents[1] / "src/tuneline/embedded/models/tiny-code-001"


@torch.inference_mode()
def nats(model: LlamaForCausalLM, ids: list[int], begin: int) -> float:
    """Summed loss of one file, by windows that overlap by half."""
    total, done = 0.0, 0
    while done < len(ids):
        start = max(0, done - CONTEXT // 2)
        window = torch.tensor([begin, *ids[start : start + CONTEXT - 1]])
        logits = model(window[None, :-1], use_cache=False).logits[0].float()
        losses = torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")
        total += losses[done - start :].sum().item()
        done = min(len(ids), start + CONTEXT - 1)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=EMBEDDED)
    parser.add_argument("--each", action="store_true", help="also print every module")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(arguments.model, dtype=torch.float32).eval()
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    total_bits, total_bytes = 0.0, 0
    for module, source in held_out_sources():
        bits = nats(model, tokenizer.encode(source, add_special_tokens=False).ids, begin) / math.log(2)
        size = len(source.encode())
        total_bits, total_bytes = total_bits + bits, total_bytes + size
        if arguments.each:
            print(f"{module}: {bits / size:.3f}")
    print(f"bits_per_byte={total_bits / total_bytes:.4f} bytes={total_bytes}")


if __name__ == "__main__":
    main()
