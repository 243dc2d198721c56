"""One tuning, the same whoever runs it: its data, its parameters, and where each engine leaves its outputs."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/stdlib-code"
TEMPLATES = ("tune-large-model", "tune-large-chat-model")
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Sums over another number of threads are rounded in another order."""
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": ""}
"""For this machine's side: the containers of these tests are given no GPU."""
EXAMPLES_FOR_TRAINING, EXAMPLES_FOR_EVALUATION = 40, 10
TIMES = ("seconds", "tokens_per_second")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The artifacts of one run."""

    resolved: Path
    dataset: Path
    checkpoints: Path
    history: Path
    evaluation: Path
    selected: Path

    @classmethod
    def found(cls, find: Callable[[str, str], Path]) -> "Outputs":
        """`find` knows the file or folder of a task's output."""
        tasks = {
            "resolved": "validate-parameters",
            "dataset": "transform-dataset",
            "checkpoints": "tune-model",
            "history": "tune-model",
            "evaluation": "evaluate-model",
            "selected": "select-checkpoint",
        }
        paths = {output: find(task, output) for output, task in tasks.items()}
        assert all(path.exists() for path in paths.values()), [str(path) for path in paths.values() if not path.exists()]
        return cls(**paths)

    @property
    def checkpoints_by_step(self) -> Path:
        """The folder that holds `checkpoint-N` and `final`."""
        return self.checkpoints / "postprocess/node-0/checkpoints"

    @property
    def model(self) -> Path:
        """The checkpoint that was selected."""
        return self.checkpoints_by_step / self.selection["checkpoint"]

    @property
    def selection(self) -> dict[str, object]:
        answer: dict[str, object] = json.loads(self.selected.read_text(encoding="utf-8"))
        return answer

    @property
    def measured(self) -> dict[str, object]:
        """The history without times."""
        return {name: value for name, value in json.loads(self.history.read_text(encoding="utf-8")).items() if name not in TIMES}


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the embedded engine made of a template on this machine."""

    template: str
    data: Path
    parameters: Mapping[str, object]
    answer: Mapping[str, object]
    """What `tuneline run --json` printed."""
    outputs: Outputs


def stage(template: str, folder: Path) -> dict[str, object]:
    """Put the example's first lines into `folder`; the parameters of a short tuning on them."""
    folder.mkdir(parents=True, exist_ok=True)
    source = EXAMPLES / "chat" if "chat" in template else EXAMPLES
    for name, count in (("train", EXAMPLES_FOR_TRAINING), ("evaluation", EXAMPLES_FOR_EVALUATION)):
        lines = (source / f"{name}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (folder / f"{name}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    return {
        "project": "local",
        "model_display_name": "contained",
        "large_model_reference": "tuneline/tiny-code@001",
        "dataset_uri": str(folder / "train.jsonl"),
        "evaluation_data_uri": str(folder / "evaluation.jsonl"),
        "train_steps": 6,
        "evaluation_interval": 3,
        "evaluation_num_prompts": 2,
        "evaluation_max_tokens": 8,
        "upload_model": False,
    }


def run_reference(template: str, folder: Path, *more: str) -> Reference:
    """Run a template on the embedded engine, with everything that it keeps in `folder`. `more` are flags of `tuneline run`."""
    parameters = stage(template, folder / "data")
    flags = [part for name, value in parameters.items() for part in (f"--{name.replace('_', '-')}", str(value).lower() if value is False else str(value))]
    environment = {**os.environ, **ENVIRONMENT, **WITHOUT_GPU, "TUNELINE_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tuneline.cli", "run", template, "--runs-dir", str(folder / "runs"), "--json", *flags, *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}"
    answer = json.loads(done.stdout)
    run = Path(answer["run_dir"])
    outputs = Outputs.found(lambda task, output: run / "tasks" / task / "attempt-1" / output)
    return Reference(template=template, data=folder / "data", parameters=parameters, answer=answer, outputs=outputs)


def assert_equal_outputs(found: Outputs, expected: Outputs) -> None:
    """Data, losses, metrics, choice and weights, to the bit."""
    for name in ("train.safetensors", "evaluation.safetensors", "evaluation_prompts.jsonl"):
        assert (found.dataset / name).read_bytes() == (expected.dataset / name).read_bytes(), name
    assert found.measured == expected.measured
    assert json.loads(found.evaluation.read_text(encoding="utf-8")) == json.loads(expected.evaluation.read_text(encoding="utf-8"))
    assert found.selection == expected.selection
    weights = sorted(file.relative_to(expected.checkpoints_by_step) for file in expected.checkpoints_by_step.glob("*/*.safetensors"))
    assert {file.parts[0] for file in weights} >= {"checkpoint-3", "checkpoint-6", "final"}
    for file in weights:
        assert (found.checkpoints_by_step / file).read_bytes() == (expected.checkpoints_by_step / file).read_bytes(), str(file)
