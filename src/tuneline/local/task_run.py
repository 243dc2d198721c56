"""One task, from its inputs to its outputs: cache, attempts, the command's environment, what the step left behind."""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tuneline.errors import InfrastructureError, TemplateError
from tuneline.local import placeholders
from tuneline.local.artifacts import artifact_path
from tuneline.local.cache import TaskCache
from tuneline.local.containers import exit_code
from tuneline.local.process import Launch, Stopped, TaskProcesses
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import Artifact, Failure, TaskState, Values
from tuneline.local.spec import ENDPOINT_SCHEMA, Component, Container, Retry
from tuneline.local.task_containers import Attempt, TaskContainers
from tuneline.local.values import to_text, typed
from tuneline.templates import Json

EXECUTOR_OUTPUT = "executor_output.json"
PROGRESS = "progress.json"
ERROR = "error.json"
EXIT_CODE = "exit_code.txt"  # names with a dot, which no output can have

FINAL_CODES = (1, 2, 70, 126, 127)
"""The user's data, a usage error, a bug, a command that cannot be started: trying again would end the same way."""
_COMMIT_MARKER = "COMMIT.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """A task that may start."""

    name: str
    component: Component
    container: Container
    inputs: Values
    placeholders: Mapping[str, str]
    """Those of the run and the task."""
    cacheable: bool
    retry: Retry
    interrupted: bool
    """An earlier engine was killed while it ran the task."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a task ended."""

    state: TaskState
    outputs: Values = field(default_factory=Values)
    cached_from: str = ""
    error: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class TaskRunner:
    """What the tasks of one run share."""

    folder: RunFolder
    processes: TaskProcesses
    cache: TaskCache | None
    start_endpoint: Callable[[Mapping[str, object]], object]
    containers: TaskContainers | None = None
    """Where the commands run; nothing: as processes of this machine."""

    def run(self, job: Job) -> Outcome:
        """Run a task to its end. `Stopped` when the engine was asked to stop before the task could succeed."""
        if (finished := self._finished_attempt(job)) is not None:
            return self._succeeded(job, finished)
        image = self.containers.record.images[job.container.image] if self.containers else job.container.image
        key = self.cache.key(_neutral_command(job, image), job.inputs.artifacts) if self.cache and job.cacheable else ""
        if self.cache and key and (hit := self.cache.find(key)):
            return Outcome(state=TaskState.SKIPPED, outputs=hit.outputs, cached_from=hit.run)
        retries = 0
        while True:
            attempt = self.folder.new_attempt(job.name)
            code = self._run_attempt(job, attempt)
            if code == 0:
                outcome = self._succeeded(job, attempt)
                if self.cache and key:
                    self.cache.keep(key, self.folder.name, outcome.outputs)
                return outcome
            if self.processes.is_stopping:
                raise Stopped
            if retries == job.retry.max_retries or code in FINAL_CODES:
                return Outcome(state=TaskState.FAILED, error=self._failure(job, attempt, code))
            retries += 1
            self.processes.pause(job.retry.wait_seconds(retries))

    def _finished_attempt(self, job: Job) -> Path | None:
        """An attempt that ended well when the engine was killed before it could write that down."""
        if job.interrupted and (attempts := self.folder.attempts(job.name)):
            code = attempts[-1] / EXIT_CODE
            return attempts[-1] if code.exists() and code.read_text(encoding="utf-8") == "0" else None
        return None

    def _run_attempt(self, job: Job, attempt: Path) -> int:
        values = {**job.placeholders, **_input_values(job.inputs), **_output_values(job.component, attempt)}
        command = [placeholders.resolve(text, values) for text in job.container.command]
        own = {key: placeholders.resolve(text, values) for key, text in job.container.environment.items()}
        ours = {"TUNELINE_PROGRESS_FILE": str(attempt / PROGRESS), "TUNELINE_ERROR_FILE": str(attempt / ERROR)}
        if (checkpoints := self._earlier_checkpoints(job, attempt)) is not None:
            ours["TUNELINE_RESUME_FROM"] = str(checkpoints)
        log = self.folder.log(job.name)
        log.parent.mkdir(exist_ok=True)
        files = {"folder": attempt, "log": log, "exit_file": attempt / EXIT_CODE}
        if self.containers is not None:
            described = Attempt(
                task=job.name, container=job.container, command=command, folder=attempt, own_variables=own, engine_variables=ours, placeholders=values,
                inputs=job.inputs.artifacts,
            )  # fmt: skip
            return exit_code(self.processes.run(self.containers.launch(described), **files))
        if command[0] in ("python", "python3"):
            command[0] = sys.executable
        return self.processes.run(Launch(command=command, environment={**_base_environment(), **own, **ours}), **files)

    def _earlier_checkpoints(self, job: Job, attempt: Path) -> Path | None:
        """What the newest earlier attempt has saved; an attempt that was stopped before its first save has no commit marker."""
        if "checkpoints" in job.component.output_artifacts:
            for earlier in reversed(self.folder.attempts(job.name)):
                if earlier != attempt and any((earlier / "checkpoints").rglob(_COMMIT_MARKER)):
                    return earlier / "checkpoints"
        return None

    def _succeeded(self, job: Job, attempt: Path) -> Outcome:
        outputs = collect_outputs(job.name, job.component, attempt)
        for artifact in outputs.artifacts.values():
            file = Path(artifact_path(artifact.uri))
            if artifact.schema_title == ENDPOINT_SCHEMA and file.is_file() and "command" in (record := json.loads(file.read_bytes())):
                self.start_endpoint(record)  # other records are of endpoints that stand elsewhere
        return Outcome(state=TaskState.SUCCEEDED, outputs=outputs)

    def _failure(self, job: Job, attempt: Path, code: int) -> Failure:
        name, log = job.name, str(self.folder.log(job.name))
        try:
            told = json.loads((attempt / ERROR).read_text(encoding="utf-8"))
            return Failure(code=code if code > 0 else told["code"], **{key: str(told[key]) for key in ("attribution", "step", "cause", "next_action")}, log=log)
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # a command that is no step of ours, or that died before it could tell
            of_container = self.containers.failure(name, job.container, code, Path(log)) if self.containers else None
            return of_container or unexplained(name, code, log)


def unexplained(name: str, code: int, log: str) -> Failure:
    """What is known of a command that ended without telling why."""
    if code < 0:
        number = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        hint = "Often the machine ran out of memory: close other programs, or choose a smaller batch or model. " if code == -signal.SIGKILL else ""
        return Failure(
            code=13, attribution="infrastructure", step=name, cause=f"{name} was ended by {number}.", next_action=f"{hint}Then go on with: --resume", log=log
        )
    attribution = {1: "user", 2: "user", 13: "infrastructure", 70: "internal"}.get(code, "task")
    return Failure(code=code, attribution=attribution, step=name, cause=f"{name} ended with exit code {code}.", next_action=f"Read its log: {log}", log=log)


def collect_outputs(name: str, component: Component, attempt: Path) -> Values:
    """What a command that ended well has put out: its files, and what it says about them in the executor output file."""
    told = _executor_output(name, attempt / EXECUTOR_OUTPUT)
    parameters: dict[str, Json] = {}
    missing: list[str] = []
    for output, kind in component.outputs.items():
        file = attempt / output
        value = told.parameters.get(output, file.read_text(encoding="utf-8") if file.is_file() else None)
        try:
            parameters[output] = typed(value, kind)
        except ValueError as error:
            missing.append(f"{name}: output parameter {output!r} " + ("was not written." if value is None else f"{error}."))
    if missing:
        raise TemplateError(*missing, next_action=f"The command must write each output parameter to its file, like {attempt / next(iter(component.outputs))}.")
    artifacts = {
        output: Artifact(
            uri=told.artifacts[output].uri if output in told.artifacts and told.artifacts[output].uri else str(attempt / output),
            schema_title=title,
            metadata=told.artifacts[output].metadata if output in told.artifacts else {},
        )
        for output, title in component.output_artifacts.items()
    }
    return Values(parameters=parameters, artifacts=artifacts)


def _executor_output(name: str, file: Path) -> Values:
    if not file.exists():
        return Values()
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        firsts = {output: entry["artifacts"][0] for output, entry in told.get("artifacts", {}).items() if entry["artifacts"]}
        artifacts = {
            output: Artifact(uri=str(first.get("uri", "")), schema_title="", metadata=dict(first.get("metadata", {}))) for output, first in firsts.items()
        }
        return Values(parameters=dict(told.get("parameterValues", {})), artifacts=artifacts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InfrastructureError(f"{name}: its executor output {file} cannot be read ({error!r}).") from error


def _input_values(inputs: Values) -> dict[str, str]:
    values = {placeholders.input_parameter(name): to_text(value) for name, value in inputs.parameters.items()}
    for name, artifact in inputs.artifacts.items():
        values[placeholders.input_artifact(name, "uri")] = artifact.uri
        values[placeholders.input_artifact(name, "path")] = artifact_path(artifact.uri)
    return values


def _output_values(component: Component, attempt: Path) -> dict[str, str]:
    values = {placeholders.EXECUTOR_OUTPUT: str(attempt / EXECUTOR_OUTPUT)}
    for name in component.outputs:
        values[placeholders.output_parameter(name)] = str(attempt / name)
    for name in component.output_artifacts:
        values |= {placeholders.output_artifact(name, field): str(attempt / name) for field in ("uri", "path")}
    return values


def _neutral_command(job: Job, image: str) -> dict[str, Json]:
    """The command as it would run, with names in the place of this run's paths: what a cache key is made from."""
    paths = {placeholders.input_artifact(name, field): name for name in job.inputs.artifacts for field in ("uri", "path")}
    values = {**job.placeholders, **_input_values(job.inputs), **paths, **_output_values(job.component, Path("/"))}
    return {
        "image": image,
        "command": [placeholders.resolve(text, values) for text in job.container.command],
        "environment": {key: placeholders.resolve(text, values) for key, text in job.container.environment.items()},
        "parameters": dict(job.inputs.parameters),
        "outputs": {**job.component.outputs, **job.component.output_artifacts},
    }


def _base_environment() -> dict[str, str]:
    """The engine's environment, fit for a command in another folder."""
    environment = dict(os.environ)
    environment.pop("TUNELINE_RESUME_FROM", None)
    if "PYTHONPATH" in environment:
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in environment["PYTHONPATH"].split(os.pathsep) if entry)
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tasks share the cores; spinning threads would steal them from each other
    return {**environment, "PYTHONUNBUFFERED": "1"}
