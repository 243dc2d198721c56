"""SIGKILL in every task of the real template: the run can be finished, and no task that was done runs again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples/stdlib-code"
TASKS = ["validate-parameters", "transform-dataset", "tune-model", "evaluate-model", "select-checkpoint", "upload-model", "deploy-model"]
DEADLINE_SECONDS = 120

pytestmark = pytest.mark.slow


def processes_of(home: Path, step: str) -> Iterator[int]:
    """Processes that run a step for this test's home folder."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                command = (folder / "cmdline").read_bytes().split(b"\0")
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if f"tuneline.steps.{step}".encode() in command and f"TUNELINE_HOME={home}".encode() in environment:
                yield int(folder.name)


def engine(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "tuneline.cli", "run", *arguments, "--json"], env=environment, stdout=subprocess.PIPE, text=True)


def wait_for(condition: object, process: subprocess.Popen[str]) -> None:
    assert callable(condition)
    until = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, "the engine ended too early"
        assert time.monotonic() < until
        time.sleep(0.005)


def workplace(tmp_path: Path) -> tuple[Path, Path, dict[str, str]]:
    """Home folder, runs folder and environment, with small data beside them."""
    for side, count in (("train", 16), ("evaluation", 10)):
        lines = (EXAMPLES / f"{side}.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
        (tmp_path / f"{side}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    home = tmp_path / "home"
    return home, tmp_path / "runs", {**os.environ, "TUNELINE_HOME": str(home), "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}


def example_job(tmp_path: Path, name: str, *, train_steps: int) -> list[str]:
    return [
        "tune-large-model", "--runs-dir", str(tmp_path / "runs"), "--name", name, "--large-model-reference", "tuneline/tiny-code@001",
        "--train-steps", str(train_steps), "--evaluation-interval", "2",
        "--dataset-uri", str(tmp_path / "train.jsonl"), "--evaluation-data-uri", str(tmp_path / "evaluation.jsonl"),
        "--evaluation-num-prompts", "2", "--evaluation-max-tokens", "4",
    ]  # fmt: skip


def test_a_term_signal_in_mid_tuning_ends_the_tree_and_resuming_goes_on(tmp_path: Path) -> None:
    home, runs, environment = workplace(tmp_path)
    process = engine(environment, *example_job(tmp_path, "stopped", train_steps=6), "--enable-early-stopping", "false")
    checkpoints = runs / "stopped/tasks/tune-model/attempt-1/checkpoints/postprocess/node-0/checkpoints"
    wait_for(lambda: (checkpoints / "checkpoint-2/COMMIT.json").exists(), process)
    process.send_signal(signal.SIGTERM)
    answer, _ = process.communicate(timeout=27)  # the grace of 25 seconds and two more
    assert process.returncode == 75
    assert json.loads(answer)["state"] == "PIPELINE_STATE_CANCELLED"
    assert not list(processes_of(home, "tune_model"))

    process = engine(environment, "--resume", "stopped", "--runs-dir", str(runs))
    answer, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert json.loads(answer)["state"] == "PIPELINE_STATE_SUCCEEDED"
    details = {detail["taskName"]: detail for detail in json.loads((runs / "stopped/run.json").read_text())["taskDetails"]}
    assert (details["transform-dataset"]["attempts"], details["tune-model"]["attempts"]) == (1, 2)
    history = json.loads(Path(details["tune-model"]["outputs"]["artifacts"]["history"]["uri"]).read_text())
    assert [row["step"] for row in history["train"]] == [1, 2, 3, 4, 5, 6]


def test_a_run_killed_in_every_task_is_finished_by_resuming(tmp_path: Path) -> None:
    home, runs, environment = workplace(tmp_path)
    arguments = example_job(tmp_path, "killed", train_steps=4)
    resume = ["--resume", "killed", "--runs-dir", str(runs)]
    for index, task in enumerate(TASKS):
        step = task.replace("-", "_")
        process = engine(environment, *(resume if index else arguments))
        wait_for(lambda step=step: any(processes_of(home, step)), process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        until = time.monotonic() + DEADLINE_SECONDS
        while any(processes_of(home, step)):
            assert time.monotonic() < until, f"{task} outlived the engine"
            time.sleep(0.005)
        done = {detail["taskName"]: detail["state"] for detail in json.loads((runs / "killed/run.json").read_text())["taskDetails"]}
        assert [done[earlier] for earlier in TASKS[:index]] == ["SUCCEEDED"] * index

    process = engine(environment, *resume)
    answer, _ = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0
    assert json.loads(answer)["state"] == "PIPELINE_STATE_SUCCEEDED"
    details = json.loads((runs / "killed/run.json").read_text())["taskDetails"]
    assert [detail["attempts"] for detail in details] == [2] * len(TASKS)
    assert len(list((home / "models").glob("*/versions/*"))) == 1
