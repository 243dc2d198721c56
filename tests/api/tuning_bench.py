"""What the tests of tuning jobs share: stand-ins, small data files, and runs that only look as if they had happened."""

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tuneline.api.jobs import OUTCOME
from tuneline.api.resources.pipeline_job_view import ORDER, PRIVATE
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.api.store import Body, Store
from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import Artifact, RunRecord, RunState, TaskRecord, TaskState, Values
from tuneline.modeling.checkpoints import list_checkpoints, write_checkpoint, write_final
from tuneline.registry.files import write_json

PARENT = "projects/proj/locations/us-central1"
JOBS = f"/v1beta1/{PARENT}/tuningJobs"
SPEC = "supervisedTuningSpec"
TRAIN, VALIDATION, HP = f"{SPEC}__trainingDatasetUri", f"{SPEC}__validationDatasetUri", f"{SPEC}__hyperParameters"
LLAMA, GEMINI = "meta/llama3_1@llama-3.1-8b", "gemini-1.0-pro-002"
OVERLAY = "".join(f'[[alias]]\nreference = "{name}"\nmodel = "tuneline/tiny-code@001"\n' for name in (GEMINI, "code-bison@002", "chat-bison@002"))
# A model row keeps its modes, so that what adapters are told can be seen.
OVERLAY += f'[[model]]\nreference = "{LLAMA}"\nuri = "embedded:tiny-code-001"\ncontext_window = 1024\nmax_sequence_length = 1024\nlearning_rate = 5e-4\n'
MOMENTS = [f"2026-11-22T10:00:0{second}.000Z" for second in range(4)]
STATISTICS = {
    "max_sequence_length": 1024,
    "training": {
        "examples": 28, "tokens": 900, "characters": 4000, "truncated_lines": [3], "dropped_lines": [5, 2], "first_prompts": ["hello"],
        **{name: {"sum": 10, "min": 1, "max": 2, "mean": 1.5, "median": 1.5, "p5": 1.0, "p95": 2.0, "buckets": []}
           for name in ("input_tokens", "output_tokens", "messages")},
    },
}  # fmt: skip


def examples(path: Path, count: int, **texts: str) -> str:
    """A file of so many examples of prompt and completion."""
    row = json.dumps({"prompt": "q", "completion": "a", **texts})
    path.write_text(f"{row}\n" * count, encoding="utf-8")
    return str(path)


def make_data(folder: Path) -> dict[str, str]:
    """Files and folders of all kinds."""
    (folder / "taken/postprocess/node-0/checkpoints/final").mkdir(parents=True)
    (folder / "other").mkdir()
    (folder / "other/config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}')
    (folder / "empty.jsonl").touch()
    sizes = {"train": 30, "validation": 7, "eight": 8, "many": 257, "few": 9}
    files = {name: examples(folder / f"{name}.jsonl", size) for name, size in sizes.items()}
    places = {name: str(folder / name) for name in ("out", "taken", "other", "empty.jsonl", "nothing")}
    return {**files, **places, "base": str(EMBEDDED_MODELS / "tiny-code-001")}


def request_body(data: dict[str, str], base: str = LLAMA, **changes: Any) -> Body:
    """A request with changes at `a__b__c`; `@name` stands for a file."""
    body: Body = {"baseModel": base, SPEC: {"trainingDatasetUri": "@train", "hyperParameters": {}}}
    for place, value in changes.items():
        *outer, last = place.split("__")
        inner = body
        for name in outer:
            inner = inner.setdefault(name, {})
        if value is None:
            inner.pop(last, None)
        else:
            inner[last] = value
    text = re.sub(r'"@([a-z.]+)', lambda match: f'"{data[match[1]]}', json.dumps(body))
    content: Body = json.loads(text)
    return content


def pipeline_values(data: dict[str, str]) -> Body:
    return {"project": "proj", "model_display_name": "old", "dataset_uri": data["train"], "large_model_reference": "code-bison@002", "train_steps": 7}


def order_of(settings: Settings, job: Body) -> Body:
    """What the job's process will be told."""
    order: Body = Store(settings.home / "service.db").get(job.get("pipelineJob", job["name"]))[ORDER]
    return order


def wait_for(look: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    pause = time.sleep
    while not look():
        assert time.monotonic() < deadline
        pause(0.05)


class FakeRun:
    """The run of a tuning job, written down as the engine would, without anything being run."""

    def __init__(self, service: Service, job: Mapping[str, Any]) -> None:
        self.service = service
        self.name = str(service.store.get(job["name"])[PRIVATE]["run"])
        self.folder = service.jobs.runs_dir / self.name
        self.record = RunRecord(name=self.name, pipeline="p", template="t", parameters={}, create_time=MOMENTS[0], start_time=MOMENTS[1])

    def begin(self) -> "FakeRun":
        """The run has begun, and its data are transformed."""
        dataset = self.folder / "dataset"
        dataset.mkdir(parents=True)
        (dataset / "statistics.json").write_text(json.dumps(STATISTICS))
        self._end_task("transform-dataset", {"dataset": Artifact(uri=str(dataset), schema_title="system.Dataset", metadata={})})
        self._write()
        return self

    def tune(self, *steps: int) -> "FakeRun":
        """The model is tuned, and checkpoints are there."""
        artifact = self.folder / "checkpoints"
        make_checkpoints(artifact, *steps)
        self._end_task("tune-model", {"checkpoints": Artifact(uri=str(artifact), schema_title="system.Artifact", metadata={})})
        return self

    def succeed(self, **outputs: str) -> None:
        """The run has ended well."""
        self.record.state, self.record.end_time = RunState.SUCCEEDED, MOMENTS[3]
        self.record.outputs = Values(parameters=outputs)
        self._write()
        self.end({"state": "SUCCEEDED"})

    def end(self, outcome: Mapping[str, object]) -> None:
        """The job's process has ended."""
        write_json(self.service.jobs.of(self.name) / OUTCOME, outcome)
        self.service.runner.wake()

    def _end_task(self, name: str, artifacts: Mapping[str, Artifact]) -> None:
        task = TaskRecord(name=name, create_time=MOMENTS[1], state=TaskState.SUCCEEDED, start_time=MOMENTS[1], end_time=MOMENTS[2])
        task.outputs = Values(artifacts=artifacts)
        self.record.tasks[name] = task

    def _write(self) -> None:
        folder = RunFolder(self.folder)
        folder.path.mkdir(parents=True, exist_ok=True)
        folder.write(self.record)


def make_checkpoints(artifact: Path, *steps: int) -> None:
    """Checkpoints as training leaves them, the last one also as `final`."""
    for step in steps:
        write_checkpoint(artifact, step, _fill)
    write_final(artifact, list_checkpoints(artifact)[-1])


def _fill(folder: Path) -> None:
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (folder / "model.safetensors").write_text(f"weights of {folder.name}")
    for name in ("optimizer.safetensors", "trainer_state.json"):
        (folder / name).write_text("only for training")
