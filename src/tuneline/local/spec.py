"""The part of KFP's pipeline specification that the embedded engine knows, as types. `tuneline.local.reading` fills them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from tuneline.local.conditions import Condition
from tuneline.local.limits import Resources
from tuneline.local.values import ParameterType
from tuneline.templates import Json

ENDPOINT_SCHEMA = "google.VertexEndpoint"
"""Schema title of the output artifact whose file may hold a deployment record."""


@dataclass(frozen=True)
class Constant:
    """A value that the template holds itself; its texts may have placeholders."""

    value: Json


@dataclass(frozen=True)
class ComponentInput:
    """An input of the component that the task is part of."""

    name: str


@dataclass(frozen=True)
class TaskOutput:
    """An output of a neighbouring task."""

    task: str
    output: str


ParameterSource: TypeAlias = Constant | ComponentInput | TaskOutput
ArtifactSource: TypeAlias = ComponentInput | TaskOutput


@dataclass(frozen=True, kw_only=True)
class InputParameter:
    """An input parameter of a component."""

    type: ParameterType
    default: Json = None
    required: bool = True
    """An optional input without a default counts as required: the engine has no value for it."""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A command, and the image that it is meant for: used with `--containers`, else only part of the cache key."""

    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    resources: Resources = field(default_factory=Resources)
    """Limits, which hold in containers."""


@dataclass(frozen=True, kw_only=True)
class Dag:
    """Tasks, and where the component's own outputs come from: the first of the named tasks that ran."""

    tasks: Mapping[str, "Task"]
    parameters: Mapping[str, tuple[TaskOutput, ...]]
    artifacts: Mapping[str, tuple[TaskOutput, ...]]


@dataclass(frozen=True, kw_only=True)
class Component:
    """Inputs and outputs, and either a command or further tasks."""

    name: str
    inputs: Mapping[str, InputParameter]
    input_artifacts: frozenset[str]
    outputs: Mapping[str, ParameterType]
    output_artifacts: Mapping[str, str]
    """Schema titles."""
    body: Container | Dag


@dataclass(frozen=True, kw_only=True)
class Retry:
    """How often a task is tried again, and how long the engine waits before."""

    max_retries: int = 0
    first_wait_seconds: float = 0.0
    wait_factor: float = 2.0
    max_wait_seconds: float = 3600.0

    def wait_seconds(self, retry: int) -> float:
        """The wait before the first (1), second (2), ... retry."""
        return float(min(self.max_wait_seconds, self.first_wait_seconds * self.wait_factor ** (retry - 1)))


@dataclass(frozen=True, kw_only=True)
class Task:
    """One use of a component."""

    name: str
    component: Component
    parameters: Mapping[str, ParameterSource]
    artifacts: Mapping[str, ArtifactSource]
    needs: frozenset[str]
    """Neighbouring tasks that must end first."""
    condition: Condition | None
    cacheable: bool
    retry: Retry


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A whole template."""

    name: str
    root: Component
    """Inputs and outputs of the pipeline."""
    dag: Dag
    """Its tasks: the body of the root."""
