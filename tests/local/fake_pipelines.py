"""Small pipelines whose containers run a few lines of Python, written as the specification that KFP compiles."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tuneline.templates import Template, read

PRELUDE = "import json, os, pathlib, sys, time; given = dict(item.split('=', 1) for item in sys.argv[1:])\n"
KINDS = {str: "STRING", bool: "BOOLEAN", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", list: "LIST", dict: "STRUCT"}


@dataclass(frozen=True, kw_only=True)
class Fake:
    """One task. The script finds values, paths of artifacts and paths of outputs in `given`.

    A value of `takes` is a constant, `"<name>"` for a parameter of the pipeline or `"task.output"` behind `from_task`.
    """

    script: str
    takes: Mapping[str, object] = field(default_factory=dict)
    reads: Mapping[str, str] = field(default_factory=dict)
    """Input artifact -> `task.output`."""
    puts: Mapping[str, str] = field(default_factory=dict)
    """Output parameter -> type."""
    makes: Mapping[str, str] = field(default_factory=dict)
    """Output artifact -> schema title."""
    after: Sequence[str] = ()
    cached: bool = False
    retries: int = 0
    environment: Mapping[str, str] = field(default_factory=dict)
    condition: str = ""
    command: Sequence[str] = ()
    """Instead of the script."""


@dataclass(frozen=True)
class From:
    """An output parameter of another task, or a parameter of the pipeline."""

    name: str
    kind: str = "STRING"

    def source(self) -> dict[str, object]:
        task, dot, output = self.name.partition(".")
        return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": output}} if dot else {"componentInputParameter": self.name}


def pipeline(tasks: Mapping[str, Fake], *, inputs: Mapping[str, object] | None = None, outputs: Mapping[str, str] | None = None) -> dict[str, object]:
    """A specification; `inputs` are parameters with defaults (a type: none), `outputs` map names to `task.output`."""
    spec: dict[str, object] = {
        "pipelineInfo": {"name": "fake"},
        "schemaVersion": "2.1.0",
        "components": {f"comp-{name}": _component(name, task) for name, task in tasks.items()},
        "deploymentSpec": {"executors": {f"exec-{name}": {"container": _container(task)} for name, task in tasks.items()}},
        "root": {"dag": {"tasks": {name: _task(name, task) for name, task in tasks.items()}}},
    }
    root = spec["root"]
    assert isinstance(root, dict)
    root["inputDefinitions"] = {"parameters": {name: _definition(value) for name, value in (inputs or {}).items()}}
    if outputs:
        chosen = {name: dict(zip(("producerSubtask", "outputParameterKey"), source.split("."), strict=True)) for name, source in outputs.items()}
        root["dag"]["outputs"] = {"parameters": {name: {"valueFromParameter": source} for name, source in chosen.items()}}
        root["outputDefinitions"] = {"parameters": {name: {"parameterType": "STRING"} for name in outputs}}
    return spec


def template(tasks: Mapping[str, Fake], **more: Mapping[str, object]) -> Template:
    return read(yaml.safe_dump(pipeline(tasks, **more)), "fake.yaml")  # type: ignore[arg-type]


def write(path: Path, tasks: Mapping[str, Fake], **more: Mapping[str, object]) -> Path:
    path.write_text(yaml.safe_dump(pipeline(tasks, **more)), encoding="utf-8")  # type: ignore[arg-type]
    return path


def _definition(value: object) -> dict[str, object]:
    if isinstance(value, type):
        return {"parameterType": KINDS[value]}
    return {"parameterType": KINDS[type(value)], "defaultValue": float(value) if type(value) is int else value, "isOptional": True}


def _kind(value: object) -> str:
    return value.kind if isinstance(value, From) else KINDS[type(value)]


def _component(name: str, task: Fake) -> dict[str, object]:
    artifact = {"artifactType": {"schemaTitle": "system.Artifact", "schemaVersion": "0.0.1"}}
    return {
        "executorLabel": f"exec-{name}",
        "inputDefinitions": {
            "parameters": {key: {"parameterType": _kind(value)} for key, value in task.takes.items()},
            "artifacts": dict.fromkeys(task.reads, artifact),
        },
        "outputDefinitions": {
            "parameters": {key: {"parameterType": kind} for key, kind in task.puts.items()},
            "artifacts": {key: {"artifactType": {"schemaTitle": title}} for key, title in task.makes.items()},
        },
    }


def _container(task: Fake) -> dict[str, object]:
    arguments = [f"{key}={{{{$.inputs.parameters['{key}']}}}}" for key in task.takes]
    arguments += [f"{key}={{{{$.inputs.artifacts['{key}'].path}}}}" for key in task.reads]
    arguments += [f"{key}={{{{$.outputs.parameters['{key}'].output_file}}}}" for key in task.puts]
    arguments += [f"{key}={{{{$.outputs.artifacts['{key}'].path}}}}" for key in task.makes]
    arguments += ["executor_output={{$.outputs.output_file}}"]
    environment = [{"name": key, "value": value} for key, value in task.environment.items()]
    if task.command:
        return {"image": "fake:1", "command": list(task.command), "env": environment}
    return {"image": "fake:1", "command": ["python", "-c", PRELUDE + task.script], "args": arguments, "env": environment}


def _task(name: str, task: Fake) -> dict[str, object]:
    parameters = {key: value.source() if isinstance(value, From) else {"runtimeValue": {"constant": value}} for key, value in task.takes.items()}
    artifacts = {
        key: {"taskOutputArtifact": dict(zip(("producerTask", "outputArtifactKey"), source.split("."), strict=True))} for key, source in task.reads.items()
    }
    spec: dict[str, object] = {
        "componentRef": {"name": f"comp-{name}"},
        "taskInfo": {"name": name},
        "inputs": {"parameters": parameters, "artifacts": artifacts},
        "dependentTasks": list(task.after),
        "cachingOptions": {"enableCache": True} if task.cached else {},
    }
    if task.retries:
        spec["retryPolicy"] = {"maxRetryCount": task.retries, "backoffDuration": "0s", "backoffFactor": 2.0, "backoffMaxDuration": "3600s"}
    if task.condition:
        spec["triggerPolicy"] = {"condition": task.condition}
    return spec


def eventually(holds: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait for a condition, and fail when it does not come."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def start_engine(template_file: Path, runs_dir: Path, *more: str) -> "subprocess.Popen[str]":
    """`tuneline run` as a process of its own."""
    command = [sys.executable, "-m", "tuneline.cli", "run", *([str(template_file)] if template_file.name else []), "--runs-dir", str(runs_dir), "--json", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def is_running(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pid_in(path: Path) -> int:
    """The process id that a script has written, once it is there."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def parent_of(pid: int) -> int:
    """The process that waits for a process: for a task's command, its supervisor."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def states(run: Path) -> dict[str, str]:
    """State of each task, from run.json."""
    return {task["taskName"]: task["state"] for task in json.loads((run / "run.json").read_text())["taskDetails"]}
