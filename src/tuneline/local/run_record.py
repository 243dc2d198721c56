"""What is known about a run and its tasks, and its form in `run.json`: the names of Vertex's pipeline jobs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from tuneline.local.containers import EngineName
from tuneline.local.limits import Limits
from tuneline.templates import Json

LOCATION = "local"
"""The region of everything on this machine."""


class RunState(StrEnum):
    """State of a run. `PAUSED` is never written: it is a run whose engine died, seen from outside."""

    RUNNING = "PIPELINE_STATE_RUNNING"
    SUCCEEDED = "PIPELINE_STATE_SUCCEEDED"
    FAILED = "PIPELINE_STATE_FAILED"
    CANCELLED = "PIPELINE_STATE_CANCELLED"
    PAUSED = "PIPELINE_STATE_PAUSED"


class TaskState(StrEnum):
    """State of a task. `SKIPPED`: its outputs came from the cache. `NOT_TRIGGERED`: its condition did not hold."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    SKIPPED = "SKIPPED"
    NOT_TRIGGERED = "NOT_TRIGGERED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def has_outputs(self) -> bool:
        """Whether the task has done its work, in this run or in an earlier one."""
        return self in (TaskState.SUCCEEDED, TaskState.SKIPPED)

    @property
    def is_final(self) -> bool:
        """Whether the task does not change any more."""
        return self not in (TaskState.PENDING, TaskState.RUNNING)


@dataclass(frozen=True, kw_only=True)
class Artifact:
    """An output artifact, by reference."""

    uri: str
    schema_title: str
    metadata: Mapping[str, Json]


@dataclass(frozen=True, kw_only=True)
class Values:
    """Parameters and artifacts: what goes into a task, or what it puts out."""

    parameters: Mapping[str, Json] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        artifacts = {name: {"uri": item.uri, "schemaTitle": item.schema_title, "metadata": dict(item.metadata)} for name, item in self.artifacts.items()}
        return {"parameters": dict(self.parameters), "artifacts": artifacts}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Values":
        artifacts = {name: Artifact(uri=item["uri"], schema_title=item["schemaTitle"], metadata=item["metadata"]) for name, item in value["artifacts"].items()}
        return cls(parameters=value["parameters"], artifacts=artifacts)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a task or a run did not succeed: what the step left in `error.json`, and where to read more."""

    code: int
    """Exit code, as in `tuneline.errors`."""
    attribution: str
    step: str
    cause: str
    next_action: str
    log: str = ""

    def to_json(self) -> dict[str, object]:
        return {**vars(self)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Failure":
        return cls(**value)


@dataclass(kw_only=True)
class TaskRecord:
    """One task."""

    name: str
    create_time: str
    state: TaskState = TaskState.PENDING
    start_time: str = ""
    end_time: str = ""
    attempts: int = 0
    cached_from: str = ""
    """The run whose outputs were taken."""
    outputs: Values = field(default_factory=Values)
    error: Failure | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "taskName": self.name,
            "state": self.state,
            "createTime": self.create_time,
            "startTime": self.start_time,
            "endTime": self.end_time,
            "attempts": self.attempts,
            "cached": bool(self.cached_from),
            "cachedFrom": self.cached_from,
            "outputs": self.outputs.to_json(),
            "error": self.error.to_json() if self.error else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "TaskRecord":
        return cls(
            name=value["taskName"],
            create_time=value["createTime"],
            state=TaskState(value["state"]),
            start_time=value["startTime"],
            end_time=value["endTime"],
            attempts=value["attempts"],
            cached_from=value["cachedFrom"],
            outputs=Values.from_json(value["outputs"]),
            error=Failure.from_json(value["error"]) if value["error"] else None,
        )

    def again(self) -> "TaskRecord":
        """The record of a task that starts anew in a resumed run."""
        return TaskRecord(name=self.name, create_time=self.create_time, attempts=self.attempts)


@dataclass(frozen=True, kw_only=True)
class ContainerRecord:
    """How the tasks of a run are put into containers: settled when it begins, so that it goes on in the same way."""

    engine: EngineName
    images: Mapping[str, str]
    """Reference in the template -> id."""
    limits: Limits = field(default_factory=Limits)
    """Those that were asked for, instead of the template's."""

    def to_json(self) -> dict[str, object]:
        return {"engine": self.engine, "images": dict(self.images), "memoryBytes": self.limits.memory_bytes, "cpus": self.limits.cpus}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ContainerRecord":
        return cls(engine=value["engine"], images=value["images"], limits=Limits(memory_bytes=value["memoryBytes"], cpus=value["cpus"]))


@dataclass(kw_only=True)
class RunRecord:
    """One run of a pipeline."""

    name: str
    pipeline: str
    template: str
    """As it was asked for: a name, a path or a URI."""
    parameters: Mapping[str, Json]
    create_time: str
    state: RunState = RunState.RUNNING
    start_time: str = ""
    end_time: str = ""
    outputs: Values = field(default_factory=Values)
    error: Failure | None = None
    containers: ContainerRecord | None = None
    """Nothing when the tasks are processes of this machine."""
    tasks: dict[str, TaskRecord] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0, or the code of the task that failed or of the signal that stopped the run."""
        return self.error.code if self.error else 0

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "pipeline": self.pipeline,
            "template": self.template,
            "state": self.state,
            "createTime": self.create_time,
            "startTime": self.start_time,
            "endTime": self.end_time,
            "parameters": dict(self.parameters),
            "containers": self.containers.to_json() if self.containers else None,
            "outputs": dict(self.outputs.parameters),
            "error": self.error.to_json() if self.error else None,
            "taskDetails": [task.to_json() for task in self.tasks.values()],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "RunRecord":
        tasks = [TaskRecord.from_json(task) for task in value["taskDetails"]]
        return cls(
            name=value["name"],
            pipeline=value["pipeline"],
            template=value["template"],
            parameters=value["parameters"],
            create_time=value["createTime"],
            state=RunState(value["state"]),
            start_time=value["startTime"],
            end_time=value["endTime"],
            outputs=Values(parameters=value["outputs"]),
            error=Failure.from_json(value["error"]) if value["error"] else None,
            containers=ContainerRecord.from_json(value["containers"]) if value.get("containers") else None,  # runs before 0.2 have no such key
            tasks={task.name: task for task in tasks},
        )


def now() -> str:
    """This moment, as Vertex writes it."""
    return stamp(datetime.now(UTC))


def stamp(moment: datetime) -> str:
    """A time with its zone, as Vertex writes it: in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_between(start: str, end: str) -> float:
    """Seconds from one recorded moment to another; `end` may be empty, for now."""
    return (datetime.fromisoformat(end or now()) - datetime.fromisoformat(start)).total_seconds() if start else 0.0
