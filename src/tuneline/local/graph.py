"""The tasks of one run and what may start next. Decisions only: starting and waiting are the engine's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from tuneline.errors import TemplateError
from tuneline.local import placeholders
from tuneline.local.run_record import Artifact, Failure, TaskRecord, TaskState, Values, now
from tuneline.local.spec import ComponentInput, Constant, Dag, Pipeline, Task, TaskOutput
from tuneline.local.values import to_text, typed
from tuneline.templates import Json


@dataclass(kw_only=True)
class Node:
    """One task in one run. A task whose component holds tasks itself has a scope once it has started."""

    name: str
    """Unique in the run: `task`, or `outer.task`."""
    task: Task
    scope: "Scope"
    record: TaskRecord
    inside: "Scope | None" = None
    inputs: Values = field(default_factory=Values)


@dataclass(kw_only=True)
class Scope:
    """One use of a dag: its inputs and its tasks."""

    dag: Dag
    inputs: Values
    nodes: dict[str, Node] = field(default_factory=dict)


class Graph:
    """All tasks of a run, with their records."""

    def __init__(self, pipeline: Pipeline, parameters: Mapping[str, Json], values: Mapping[str, str], records: dict[str, TaskRecord]) -> None:
        self._values = values
        self._records = records
        self._root = self._open(pipeline.dag, Values(parameters=parameters), "")

    def nodes(self) -> list[Node]:
        """Every task known so far, outer ones first."""
        return list(_walk(self._root))

    def values_of(self, node: Node) -> dict[str, str]:
        """The placeholders of the run and of one task."""
        return {**self._values, "pipeline_task_name": node.name, "pipeline_task_uuid": f"{self._values['pipeline_job_uuid']}-{node.name}"}

    def advance(self) -> list[Node]:
        """Settle what can be settled without running anything; the tasks that may start now."""
        ready: list[Node] = []
        while self._settle(self._root, ready):
            ready.clear()
        return ready

    def outputs(self) -> Values:
        """What the pipeline puts out; an output of a task that was not triggered is left out."""
        return _outputs_of(self._root)

    def _open(self, dag: Dag, inputs: Values, prefix: str) -> Scope:
        scope = Scope(dag=dag, inputs=inputs)
        order = TopologicalSorter({name: sorted(task.needs) for name, task in sorted(dag.tasks.items())})
        for name in order.static_order():
            record = self._records.setdefault(prefix + name, TaskRecord(name=prefix + name, create_time=now()))
            scope.nodes[name] = Node(name=prefix + name, task=dag.tasks[name], scope=scope, record=record)
        return scope

    def _settle(self, scope: Scope, ready: list[Node]) -> bool:
        """Whether a state has changed, so that another task may be ready now."""
        changed = False
        for node in scope.nodes.values():
            if node.record.state == TaskState.PENDING and all(scope.nodes[name].record.state.is_final for name in node.task.needs):
                changed = self._begin(node, ready) or changed
            elif node.inside is not None and node.record.state == TaskState.RUNNING:
                changed = self._settle(node.inside, ready) or _close(node) or changed
        return changed

    def _begin(self, node: Node, ready: list[Node]) -> bool:
        needed = {node.scope.nodes[name].record.state for name in node.task.needs}
        if not all(state.has_outputs or state == TaskState.NOT_TRIGGERED for state in needed):
            return False  # a task failed or was stopped
        try:
            inputs = None if TaskState.NOT_TRIGGERED in needed else self._inputs(node)
            triggered = inputs is not None and (node.task.condition is None or node.task.condition.holds(inputs.parameters))
        except TemplateError as error:
            node.record.state, node.record.end_time = TaskState.FAILED, now()
            node.record.error = Failure(
                code=error.exit_code, attribution=error.attribution, step=node.name, cause=f"{node.name}: {error}", next_action=error.next_action
            )
            return True
        if inputs is None or not triggered:
            node.record.state = TaskState.NOT_TRIGGERED
            return True
        node.inputs = inputs
        if isinstance(node.task.component.body, Dag):
            node.inside = self._open(node.task.component.body, inputs, f"{node.name}.")
            node.record.state, node.record.start_time = TaskState.RUNNING, now()
            return True
        ready.append(node)
        return False

    def _inputs(self, node: Node) -> Values | None:
        """The inputs of a task whose producers have ended; nothing when one of them was not triggered."""
        parameters: dict[str, Json] = {}
        artifacts: dict[str, Artifact] = {}
        for name, source in node.task.artifacts.items():
            known, key = _origin(node.scope, source)
            if key not in known.artifacts:
                return None
            artifacts[name] = known.artifacts[key]
        for name, reference in node.task.parameters.items():
            if not isinstance(reference, Constant):
                known, key = _origin(node.scope, reference)
                if key not in known.parameters:
                    return None
                parameters[name] = known.parameters[key]
        texts = {**self.values_of(node), **{placeholders.input_parameter(name): to_text(value) for name, value in parameters.items()}}
        parameters |= {name: filled(item.value, texts) for name, item in node.task.parameters.items() if isinstance(item, Constant)}
        for name, definition in node.task.component.inputs.items():
            try:
                parameters[name] = typed(parameters[name] if name in parameters else filled(definition.default, texts), definition.type)
            except ValueError as error:
                raise TemplateError(f"input {name!r}: {error}.") from None
        return Values(parameters=parameters, artifacts=artifacts)


def filled(value: Json, texts: Mapping[str, str]) -> Json:
    """A value of the template with its placeholders replaced."""
    if isinstance(value, str):
        return placeholders.resolve(value, texts)
    if isinstance(value, list):
        return [filled(item, texts) for item in value]
    if isinstance(value, dict):
        return {key: filled(item, texts) for key, item in value.items()}
    return value


def _origin(scope: Scope, source: ComponentInput | TaskOutput) -> tuple[Values, str]:
    """Where a value comes from, and its name there."""
    return (scope.inputs, source.name) if isinstance(source, ComponentInput) else (scope.nodes[source.task].record.outputs, source.output)


def _walk(scope: Scope) -> Iterator[Node]:
    for node in scope.nodes.values():
        yield node
        if node.inside is not None:
            yield from _walk(node.inside)


def _close(node: Node) -> bool:
    """End a task whose inner tasks have ended."""
    if node.inside is None or not all(inner.record.state.is_final for inner in node.inside.nodes.values()):
        return False
    states = {inner.record.state for inner in node.inside.nodes.values()}
    worst = next((state for state in (TaskState.FAILED, TaskState.CANCELLED) if state in states), TaskState.SUCCEEDED)
    node.record.state, node.record.end_time, node.record.outputs = worst, now(), _outputs_of(node.inside)
    return True


def _outputs_of(scope: Scope) -> Values:
    """Every output comes from the first of its sources that has put it out."""
    parameters: dict[str, Json] = {}
    artifacts: dict[str, Artifact] = {}
    for name, sources in scope.dag.parameters.items():
        for known, key in (_origin(scope, source) for source in reversed(sources)):
            parameters |= {name: known.parameters[key]} if key in known.parameters else {}
    for name, sources in scope.dag.artifacts.items():
        for known, key in (_origin(scope, source) for source in reversed(sources)):
            artifacts |= {name: known.artifacts[key]} if key in known.artifacts else {}
    return Values(parameters=parameters, artifacts=artifacts)
