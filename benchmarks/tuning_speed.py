"""How fast is tuning? Ours against TRL and the transformers Trainer: the same model, examples and tokens a step, one interleaved run.

    pip install -r benchmarks/requirements.txt
    python -m benchmarks.tuning_speed [--rounds 3] [--steps 12] [--threads 2] [--json FILE]

Everybody trains all weights in fp32 on the answers only, without gradient checkpointing. TRL runs at the best setting that was found
for a CPU: documents packed by best fit into rows of 1,024 tokens, one row at a time, four of them a step. The first step of
each run is not counted. Speed is in useful tokens: padding counts for nothing.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parents[1] / "examples/stdlib-code/train.jsonl"
ROW, ROWS_A_STEP, LEARNING_RATE = 1_024, 4, 1e-3


class Clock:
    """Tokens, wall and CPU time of the steps after the first."""

    def __init__(self) -> None:
        self.steps, self.tokens, self.wall, self.cpu = 0, 0, 0.0, 0.0
        self._began = (0.0, 0.0)

    def begin(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def end(self, tokens: int) -> None:
        self.steps += 1
        if self.steps > 1:
            self.tokens += tokens
            self.wall += time.perf_counter() - self._began[0]
            self.cpu += time.process_time() - self._began[1]


def tuneline(work: Path, steps: int, clock: Clock) -> float:
    """Our loop, as the step `tune-model` calls it."""
    from tuneline.data.dataset import TokenDataset
    from tuneline.progress import ProgressFile
    from tuneline.tuning import devices, trainer
    from tuneline.tuning.plan import TuningPlan

    dataset = TokenDataset.read(work / "train.safetensors")
    batch_size = round(ROW * ROWS_A_STEP / dataset.lengths.mean())
    plan = TuningPlan(steps=steps, batch_size=batch_size, learning_rate=LEARNING_RATE, evaluation_interval=steps, early_stopping=False, seed=0)
    update = trainer.Trainer.update

    def timed(self: Any, stop: Any) -> None:
        clock.begin()
        before = self.records.tokens
        update(self, stop)
        clock.end(self.records.tokens - before)

    trainer.Trainer.update = timed  # type: ignore[method-assign]
    outputs = trainer.Outputs(checkpoints=work / "checkpoints", tensorboard=work / "tensorboard")
    base = Path((work / "base").read_text())
    history = trainer.tune(base, dataset, None, plan, outputs=outputs, device=devices.prepare_device(""), progress=ProgressFile(None))
    return statistics.mean(row.total_loss for row in history.train[-5:])


def counting(trainer_class: Any, clock: Clock) -> Any:
    """The trainer class, with every step measured."""
    from transformers import TrainerCallback

    tokens = [0]

    class Counting(trainer_class):  # type: ignore[misc]
        def training_step(self, model: Any, inputs: dict[str, Any], *more: Any) -> Any:
            mask = inputs.get("attention_mask")
            tokens[0] += int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            return super().training_step(model, inputs, *more)

    class Steps(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            tokens[0] = 0
            clock.begin()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.end(tokens[0])

    return lambda **arguments: Counting(callbacks=[Steps()], **arguments)


def settings(work: Path, steps: int) -> dict[str, Any]:
    """What the two trainers have in common."""
    return {
        "output_dir": str(work / "trainer"), "max_steps": steps, "learning_rate": LEARNING_RATE, "lr_scheduler_type": "cosine", "max_grad_norm": 1.0,
        "per_device_train_batch_size": 1, "use_cpu": True, "report_to": "none", "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True,
        "seed": 0, "bf16": False, "gradient_checkpointing": False, "optim": "adamw_torch_fused", "weight_decay": 0.0,
    }  # fmt: skip


def base_model(work: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained((work / "base").read_text(), dtype=torch.float32)


def last_loss(trainer: Any) -> float:
    return statistics.mean([entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-5:])


def trl(work: Path, steps: int, clock: Clock) -> float:
    """TRL's SFTTrainer."""
    from datasets import load_dataset
    from transformers import AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    data = load_dataset("json", data_files=str(work / "messages.jsonl"), split="train", cache_dir=str(work / "cache"))
    arguments = SFTConfig(**settings(work, steps), gradient_accumulation_steps=ROWS_A_STEP, max_length=ROW, packing=True, assistant_only_loss=True)
    tokenizer = AutoTokenizer.from_pretrained((work / "base").read_text())
    trainer = counting(SFTTrainer, clock)(model=base_model(work), args=arguments, train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return last_loss(trainer)


def transformers_trainer(work: Path, steps: int, clock: Clock) -> float:
    """The transformers Trainer with the model's own loss, on our tokens packed into one row a step."""
    import numpy as np
    from transformers import DataCollatorWithFlattening, Trainer, TrainingArguments

    from tuneline.data.dataset import TokenDataset
    from tuneline.data.packing import pack

    dataset = TokenDataset.read(work / "train.safetensors")
    flatten = DataCollatorWithFlattening()
    rows = pack(dataset.lengths.tolist(), ROW * ROWS_A_STEP)

    def collate(batch: list[list[int]]) -> Any:
        examples = [dataset.example(index) for index in batch[0]]
        return flatten([{"input_ids": ids.tolist(), "labels": np.where(mask, ids, -100).tolist()} for ids, mask in examples])

    arguments = TrainingArguments(**settings(work, steps), remove_unused_columns=False)
    trainer = counting(Trainer, clock)(model=base_model(work), args=arguments, train_dataset=rows, data_collator=collate)
    trainer.train()
    return last_loss(trainer)


VARIANTS: dict[str, Callable[[Path, int, Clock], float]] = {"tuneline": tuneline, "trl": trl, "transformers": transformers_trainer}


def prepare(work: Path, base_model_uri: str, num_examples: int) -> None:
    """The examples twice: as tokens for us, and as messages for TRL. Those longer than a row are left out."""
    from tuneline.data.base_model import locate
    from tuneline.data.conversation import Conversation, Turn
    from tuneline.data.dataset import DatasetBuilder
    from tuneline.data.tokens import load_tokenizer

    base = locate(base_model_uri, downloads=work)
    (work / "base").write_text(str(base))
    tokenizer, builder, messages = load_tokenizer(base), DatasetBuilder(), []
    for number, line in enumerate(EXAMPLES.read_text(encoding="utf-8").splitlines()[:num_examples], start=1):
        row = json.loads(line)
        turns = (Turn("user", row["input_text"]), Turn("assistant", row["output_text"]))
        encoded = tokenizer.encode(Conversation(turns))
        if len(encoded.input_ids) <= ROW:
            builder.add(number, encoded.input_ids, encoded.loss_mask)
            messages.append({"messages": [{"role": turn.role, "content": turn.content} for turn in turns]})
    builder.build().write(work / "train.safetensors")
    (work / "messages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in messages), encoding="utf-8")


def measure(name: str, work: Path, steps: int) -> dict[str, float]:
    """One variant, in this process."""
    clock = Clock()
    loss = VARIANTS[name](work, steps, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"tokens_per_second": clock.tokens / clock.wall, "tokens_per_cpu_second": clock.tokens / clock.cpu, "peak_mib": peak, "loss": loss}


def run(name: str, work: Path, arguments: argparse.Namespace) -> dict[str, float]:
    """One variant, in a fresh process and folder."""
    with tempfile.TemporaryDirectory() as fresh:
        for path in work.iterdir():
            (Path(fresh) / path.name).symlink_to(path)
        python = sys.executable if name == "tuneline" else arguments.opponent_python
        command = [python, "-m", "benchmarks.tuning_speed", "--measure", name, "--work", fresh, "--steps", str(arguments.steps)]
        threads = {"OMP_NUM_THREADS": str(arguments.threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        began = time.perf_counter()
        done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name} failed; is it installed? pip install -r benchmarks/requirements.txt\n{done.stderr[-2000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {**result, "process_seconds": time.perf_counter() - began}


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """Medians over the rounds, and the ratio to ours of the same run."""
    middle = {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in results.items()}
    lines = ["| | useful tokens/s | ours is | tokens/CPU-s | ours is | peak MiB | whole process s | last loss |", "|---|---|---|---|---|---|---|---|"]
    for name, row in middle.items():
        ratios = [middle["tuneline"][key] / row[key] for key in ("tokens_per_second", "tokens_per_cpu_second")]
        lines.append(
            f"| {name} | {row['tokens_per_second']:.0f} | {ratios[0]:.2f}x | {row['tokens_per_cpu_second']:.0f} | {ratios[1]:.2f}x "
            f"| {row['peak_mib']:.0f} | {row['process_seconds']:.1f} | {row['loss']:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12, help="steps of about 4,096 tokens")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--examples", type=int, default=800)
    parser.add_argument("--base-model", default="embedded:tiny-code-001", help="embedded:NAME or a folder")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--opponent-python", default=sys.executable, help="interpreter that has TRL")
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    parser.add_argument("--measure", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, arguments.work, arguments.steps)))
        return
    results: dict[str, list[dict[str, float]]] = {name: [] for name in dict.fromkeys(["tuneline", *arguments.variants])}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), arguments.base_model, arguments.examples)
        for number in range(arguments.rounds):
            for name, rows in results.items():
                rows.append(run(name, Path(folder), arguments))
                print(f"round={number + 1} {name} tokens_per_second={rows[-1]['tokens_per_second']:.0f}", file=sys.stderr, flush=True)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
