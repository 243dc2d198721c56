"""Does tuning teach the task? Base and tuned model on held-out modules, over several seeds, and a control with shuffled completions.

    python -m benchmarks.held_out_gain [--seeds 0 1 2] [--train-steps 60] [--json FILE]

The control keeps every prompt and every completion but pairs them at random: what it gains is format and vocabulary, not the task.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples/stdlib-code"


def shuffled(source: Path, out: Path, seed: int) -> Path:
    """A copy of an input-output file in which no prompt keeps its own completion."""
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    partner = {order[i]: order[i - 1] for i in range(len(order))}  # one cycle: nobody is its own partner
    mixed = [{"input_text": row["input_text"], "output_text": rows[partner[index]]["output_text"]} for index, row in enumerate(rows)]
    out.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in mixed), encoding="utf-8")
    return out


def run(dataset: Path, seed: int, train_steps: int) -> dict[str, dict[str, float]]:
    """Metrics of the base and the tuned model of one run of the template."""
    command = [
        sys.executable, "-m", "tuneline.cli", "run", "tune-large-model", "--json", "--quiet", "--seed", str(seed), "--train-steps", str(train_steps),
        "--dataset-uri", str(dataset), "--evaluation-data-uri", str(EXAMPLES / "evaluation.jsonl"),
        "--large-model-reference", "tuneline/tiny-code@001", "--evaluation-num-prompts", "0", "--upload-model", "false",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    metrics: dict[str, dict[str, float]] = json.loads(done.stdout)["metrics"]
    return metrics


def gain(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    """Relative drop of the loss (0.1 = 10%) and rise of the token accuracy in points."""
    base, tuned = metrics["base"], metrics["tuned"]
    return {"loss": 1 - tuned["loss"] / base["loss"], "accuracy_points": 100 * (tuned["token_accuracy"] - base["token_accuracy"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train-steps", type=int, default=60)
    parser.add_argument("--json", type=Path, help="also write all figures to this file")
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    gains: dict[str, list[dict[str, float]]] = {"real": [], "shuffled": []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in arguments.seeds:
            control = shuffled(EXAMPLES / "train.jsonl", Path(folder) / f"shuffled-{seed}.jsonl", seed)
            for kind, dataset in (("real", EXAMPLES / "train.jsonl"), ("shuffled", control)):
                metrics = run(dataset, seed, arguments.train_steps)
                gains[kind].append(gain(metrics))
                rows.append({"seed": seed, "data": kind, **metrics, "gain": gains[kind][-1]})
                print(
                    f"seed={seed} data={kind} loss {metrics['base']['loss']:.3f} -> {metrics['tuned']['loss']:.3f} ({-100 * gains[kind][-1]['loss']:+.1f}%)"
                    f" accuracy {100 * metrics['base']['token_accuracy']:.1f}% -> {100 * metrics['tuned']['token_accuracy']:.1f}%",
                    flush=True,
                )
    for name in ("loss", "accuracy_points"):
        real, control_gain = (statistics.mean(row[name] for row in gains[kind]) for kind in ("real", "shuffled"))
        print(f"mean gain in {name}: real {real:.3f}, shuffled {control_gain:.3f}, ratio {control_gain / real:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
