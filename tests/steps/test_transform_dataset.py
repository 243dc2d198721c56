import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data.tiny_tokenizer import write_model
from tuneline import interface
from tuneline.data.dataset import TokenDataset
from tuneline.errors import DatasetError, ModelError, UsageError
from tuneline.resolution import Limits, Resolved, ResolvedModel
from tuneline.steps import transform_dataset

HEAVY = ("torch", "transformers", "datasets", "kfp", "google.cloud.storage", "huggingface_hub", "fsspec")


class Task:
    """The task as an engine starts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = write_model(folder / "model")
        self.write("train", [("q", "a"), ("x", "y")])
        self.write("evaluation", [("q", "b")])
        self.flags = {
            "dataset_uri": str(folder / "train.jsonl"), "evaluation_data_uri": str(folder / "evaluation.jsonl"), "default_context": "be brief",
            "general_data_uri": "",
            "overlength_policy": "error", "dataset_fingerprint": "abc", "resolved": str(folder / "resolved.json"),
            "output_dataset": str(folder / "out" / "dataset"), "executor_output": str(folder / "out" / "executor_output.json"),
        }  # fmt: skip
        self.resolve()

    def write(self, name: str, rows: list[tuple[str, str]]) -> None:
        lines = [json.dumps({"input_text": question, "output_text": answer}) + "\n" for question, answer in rows]
        (self.folder / f"{name}.jsonl").write_text("".join(lines))

    def resolve(self, *, limits: Limits = Limits(), uri: str = "", most: int = 64) -> None:
        model = ResolvedModel(
            reference="code-bison@002",
            stands_in="tuneline/tiny-code@001",
            uri=uri or str(self.model),
            legacy=True,
            max_sequence_length=most,
            learning_rate=1e-3,
        )
        resolved = Resolved(
            backend="local", pipeline_region="local", upload_region="local", tuning_region="local", machine_type="", accelerator_type="", accelerator_count=0,
            batch_size=8, base_model=model, limits=limits, reasons=(),
        )  # fmt: skip
        (self.folder / "resolved.json").write_text(resolved.to_json())

    @property
    def argv(self) -> list[str]:
        return [word for name, value in self.flags.items() for word in (interface.flag(name), value)]


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    return Task(tmp_path)


def test_files_become_a_data_set_folder_and_an_executor_output(task: Task) -> None:
    transform_dataset.main(task.argv)
    out = task.folder / "out" / "dataset"
    assert len(TokenDataset.read(out / "train.safetensors")) == 2
    assert len(TokenDataset.read(out / "evaluation.safetensors")) == 1
    assert json.loads((out / "statistics.json").read_text())["base_model"] == "tuneline/tiny-code@001"
    [artifact] = json.loads((task.folder / "out" / "executor_output.json").read_text())["artifacts"]["dataset"]["artifacts"]
    assert artifact["uri"] == str(out)
    assert artifact["metadata"]["training_examples"] == 2


def test_evaluation_data_may_be_left_out(task: Task) -> None:
    del task.flags["evaluation_data_uri"]
    transform_dataset.main(task.argv)
    assert sorted(path.name for path in (task.folder / "out" / "dataset").iterdir()) == ["statistics.json", "train.safetensors"]


def test_bad_data_is_refused_with_all_its_errors_and_nothing_is_written(task: Task) -> None:
    task.write("train", [("q", ""), ("long " * 100, "a")])
    task.resolve(limits=Limits(min_training_examples=10))
    with pytest.raises(DatasetError) as raised:
        transform_dataset.main(task.argv)
    assert len(raised.value.problems) == 3
    assert not (task.folder / "out").exists()


def test_the_overlength_policy_is_passed_on(task: Task) -> None:
    task.write("train", [("q", "a"), ("q", "long " * 100)])
    task.flags["overlength_policy"] = "drop"
    transform_dataset.main(task.argv)
    assert TokenDataset.read(task.folder / "out" / "dataset" / "train.safetensors").lines.tolist() == [1]


def test_a_hostile_base_model_is_refused(task: Task) -> None:
    config = json.loads((task.model / "config.json").read_text())
    (task.model / "config.json").write_text(json.dumps({**config, "auto_map": {}}))
    with pytest.raises(ModelError, match="auto_map"):
        transform_dataset.main(task.argv)


def test_a_misspelt_flag_is_a_usage_error(task: Task) -> None:
    with pytest.raises(UsageError, match="Did you mean '--overlength-policy'"):
        transform_dataset.main([*task.argv, "--overlenght-policy", "drop"])


def test_flags_are_the_fields_of_its_groups(task: Task) -> None:
    fields = [field.name for group in transform_dataset.FLAGS for field in dataclasses.fields(group)]
    assert sorted(fields) == sorted(task.flags)


def run(task: Task, code: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TUNELINE_ERROR_FILE": str(task.folder / "error.json")}
    environment["TUNELINE_PROGRESS_FILE"] = str(task.folder / "progress.json")
    return subprocess.run([sys.executable, "-c", code, *task.argv], capture_output=True, text=True, env=environment, check=False)


def test_the_whole_step_runs_without_torch_and_transformers(task: Task) -> None:
    done = run(task, f"import sys; from tuneline.steps import transform_dataset as t; t.main(sys.argv[1:]); print([m for m in {HEAVY} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr
    progress = json.loads((task.folder / "progress.json").read_text())
    assert progress["completed"] == progress["total"] > 0


def test_bad_data_ends_with_exit_code_1_and_an_error_file_that_quotes_nothing(task: Task) -> None:
    task.write("train", [("wombat", ""), ("wombat " * 100, "wombat")])
    done = run(task, "from tuneline.steps import run_step, transform_dataset; run_step('transform-dataset', transform_dataset.main)")
    assert done.returncode == 1
    error = json.loads((task.folder / "error.json").read_text())
    assert (error["code"], error["attribution"], error["step"]) == (1, "user", "transform-dataset")
    assert "train.jsonl:1" in error["cause"]
    assert "train.jsonl:2" in error["cause"]
    assert "wombat" not in done.stderr + done.stdout + json.dumps(error)
