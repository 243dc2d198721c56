"""Pre-train the embedded base model `tuneline/tiny-code@001` on standard-library source, on a CPU.

    python -m pretraining.tokenizer --out FOLDER
    python -m pretraining.pretrain --out FOLDER [--epochs 3] [--threads 2]

The same interpreter, seed and thread count give the same model. Muon for the weight matrices and AdamW for the rest: at a few
million tokens a better optimizer is worth more than a longer run.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, LlamaForCausalLM

from pretraining.corpus import CHAT_SHARE, library_tests, training_sources
from tuneline.modeling import attention
from tuneline.modeling.loss import linear_cross_entropy

CONTEXT = 1_024
TOKENS_PER_STEP = 4_096
WARM_UP_STEPS = 60
DECAY_SHARE = 0.5
TEST_STRIDE = 10


@dataclass(frozen=True)
class Rates:
    """Peak learning rates."""

    matrices: float = 0.006
    embeddings: float = 3e-3
    norms: float = 3e-3


def configuration(tokenizer: Tokenizer) -> LlamaConfig:
    """The Llama shape: 5.4 M parameters, 2.1 M of them in the tied embedding."""
    return LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=256, intermediate_size=608, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=2 * CONTEXT, rope_theta=10_000.0, rms_norm_eps=1e-5, tie_word_embeddings=True,
        bos_token_id=tokenizer.token_to_id("<|begin_of_text|>"), eos_token_id=tokenizer.token_to_id("<|end_of_turn|>"),
        pad_token_id=tokenizer.token_to_id("<|pad|>"),
    )  # fmt: skip


class Pieces:
    """Cuts tokenized files into documents of at most `CONTEXT` tokens, at other places in every epoch."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self.random = random.Random(seed)
        encode = lambda sources: [e.ids for e in tokenizer.encode_batch([text for _, text in sources], add_special_tokens=False)]  # noqa: E731
        self.files, self.tests = encode(training_sources()), encode(library_tests())
        token = tokenizer.token_to_id
        self.begin, self.end = token("<|begin_of_text|>"), token("<|end_of_text|>")
        line_break = tokenizer.encode("\n", add_special_tokens=False).ids
        self.user, self.assistant = ([token(f"<|{role}|>"), *line_break] for role in ("user", "assistant"))
        self.end_of_turn = [token("<|end_of_turn|>"), *line_break]
        self.random.shuffle(self.tests)

    def epoch(self, number: int) -> list[list[int]]:
        """The documents of one epoch, shuffled: every module, and another tenth of the tests each time."""
        documents = [document for ids in self.files + self.tests[number::TEST_STRIDE] for document in self.cut(ids)]
        self.random.shuffle(documents)
        return documents

    def cut(self, ids: Sequence[int]) -> Iterator[list[int]]:
        """Consecutive pieces of one file; the first is short by chance, so that boundaries move."""
        size = CONTEXT - 12
        starts = [0, *range(self.random.randrange(size // 4, size), len(ids), size)]
        for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
            piece = list(ids[start:stop])
            if len(piece) > 64 and self.random.random() < CHAT_SHARE:
                middle = self.random.randrange(16, len(piece) - 16)
                question = [*self.user, *piece[:middle], *self.end_of_turn]
                yield [self.begin, *question, *self.assistant, *piece[middle:], *self.end_of_turn]
            elif piece:
                yield [self.begin, *piece, *([self.end] if stop == len(ids) else [])]


def rows(documents: Sequence[list[int]]) -> Iterator[list[list[int]]]:
    """Documents in order, gathered to about `TOKENS_PER_STEP` tokens."""
    row: list[list[int]] = []
    for document in documents:
        if sum(map(len, row)) + len(document) > TOKENS_PER_STEP:
            yield row
            row = []
        row.append(document)


def step_loss(model: LlamaForCausalLM, row: Sequence[list[int]]) -> torch.Tensor:
    """Mean loss over every predicted token of one packed row."""
    ids = torch.tensor([token for document in row for token in document])
    positions = torch.cat([torch.arange(len(document)) for document in row])
    lengths = [len(document) for document in row]
    hidden = model.model(input_ids=ids[None], position_ids=positions[None], use_cache=False, document_lengths=lengths).last_hidden_state[0]
    predicts = torch.ones(len(ids), dtype=torch.bool)
    predicts[torch.tensor(lengths).cumsum(0) - 1] = False
    targets = ids.roll(-1)[predicts]
    loss, _ = linear_cross_entropy(hidden[predicts], model.lm_head.weight, targets, 1 / len(targets))
    return loss


def rate_share(step: int, steps: int) -> float:
    """Share of the peak learning rate: warm-up, level, linear decay to a hundredth."""
    decay_from = steps * (1 - DECAY_SHARE)
    return min(1.0, (step + 1) / WARM_UP_STEPS) * max(0.01, min(1.0, (steps - step) / (steps - decay_from)))


def optimizers(model: LlamaForCausalLM, rates: Rates) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for the embedding and the norms."""
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    norms = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": [model.lm_head.weight], "lr": rates.embeddings}, {"params": norms, "lr": rates.norms}]
    muon = torch.optim.Muon(matrices, lr=rates.matrices, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(groups, betas=(0.9, 0.97), weight_decay=0.0, fused=True)]


def pretrain(folder: Path, *, epochs: int, seed: int, rates: Rates, max_steps: int | None) -> None:
    """Train and write the model beside the tokenizer in `folder`, in bf16."""
    attention.register()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    torch.manual_seed(seed)
    model = LlamaForCausalLM._from_config(configuration(tokenizer), attn_implementation=attention.PACKED)
    model.train()
    pieces = Pieces(tokenizer, seed)
    batches = [row for number in range(epochs) for row in rows(pieces.epoch(number))][:max_steps]
    parts = optimizers(model, rates)
    peaks = [[group["lr"] for group in part.param_groups] for part in parts]
    print(f"parameters={sum(p.numel() for p in model.parameters())} steps={len(batches)} tokens={sum(len(d) for row in batches for d in row)}", flush=True)
    started, recent = time.monotonic(), 0.0
    for step, row in enumerate(batches):
        loss = step_loss(model, row)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for part, part_peaks in zip(parts, peaks, strict=True):
            for group, peak in zip(part.param_groups, part_peaks, strict=True):
                group["lr"] = peak * rate_share(step, len(batches))
            part.step()
            part.zero_grad()
        recent += loss.item()
        if (step + 1) % 50 == 0:
            print(f"step={step + 1} loss={recent / 50:.4f} seconds={time.monotonic() - started:.0f}", flush=True)
            recent = 0.0
    model.config._attn_implementation = "sdpa"
    model.to(torch.bfloat16).save_pretrained(folder)
    record = {"epochs": epochs, "seed": seed, "rates": vars(rates), "steps": len(batches), "threads": torch.get_num_threads()}
    (folder / "pretraining.json").write_text(json.dumps({**record, "seconds": round(time.monotonic() - started)}, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that holds tokenizer.json; the model is written there")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--max-steps", type=int, help="stop early (to try something)")
    parser.add_argument("--matrix-rate", type=float, default=Rates.matrices)
    parser.add_argument("--embedding-rate", type=float, default=Rates.embeddings)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rates = Rates(arguments.matrix_rate, arguments.embedding_rate)
    pretrain(arguments.out, epochs=arguments.epochs, seed=arguments.seed, rates=rates, max_steps=arguments.max_steps)


if __name__ == "__main__":
    main()
