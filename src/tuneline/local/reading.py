"""A compiled template's document -> `tuneline.local.spec`. What the engine does not know is refused by name, before any task runs."""

import re
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter

from tuneline.errors import TemplateError, did_you_mean
from tuneline.local import placeholders
from tuneline.local.conditions import Condition, parse
from tuneline.local.document import Place
from tuneline.local.limits import Resources
from tuneline.local.spec import (
    ArtifactSource,
    Component,
    ComponentInput,
    Constant,
    Container,
    Dag,
    InputParameter,
    ParameterSource,
    Pipeline,
    Retry,
    Task,
    TaskOutput,
)
from tuneline.local.values import PARAMETER_TYPES, ParameterType, typed
from tuneline.templates import Json

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,199}")  # task and output names become file names
_CHANNEL = "pipelinechannel--"  # KFP hands values to a constant's placeholders by inputs that the component does not declare
_RESOURCE_INPUTS = ("cpu_request", "cpu_limit", "memory_request", "memory_limit", "accelerator_type", "accelerator_limit")  # of limits that are parameters
_ADVICE = "Run this template on Kubeflow Pipelines or Vertex AI, or compile it without that. docs/embedded-engine.md lists what runs here."


def read_pipeline(document: object) -> Pipeline:
    """The pipeline of a parsed template; one `TemplateError` tells every problem."""
    problems: list[str] = []
    root = Place(document, "template", problems)
    root.only("pipelineInfo", "root", "components", "deploymentSpec", inert=("schemaVersion", "sdkVersion", "defaultPipelineRoot"))
    version = root.text("schemaVersion", "2.1.0")
    if not version.startswith("2."):
        root.refuse(f"template: schemaVersion is {version!r}; the embedded engine reads version 2.")
    name = root.child("pipelineInfo").text("name")
    component = _Reader(root).component("root", root.child("root"), ())
    for artifact in sorted(component.input_artifacts):
        root.refuse(f"template: {artifact!r} is an input artifact of the pipeline, which the embedded engine does not take; make it a URI parameter.")
    dag = component.body
    if not isinstance(dag, Dag):
        root.refuse("template: root has no dag; it must hold the pipeline's tasks.")
        dag = Dag(tasks={}, parameters={}, artifacts={})
    if not problems and not _NAME.fullmatch(name):
        root.refuse(f"template: pipelineInfo.name is {name!r}; it may hold letters, digits, '-' and '_'.")
    if problems:
        raise TemplateError(*problems, next_action=_ADVICE)
    return Pipeline(name=name, root=component, dag=dag)


class _Reader:
    def __init__(self, template: Place) -> None:
        self.components = template.children("components")
        self.executors = template.child("deploymentSpec").children("executors")
        template.child("deploymentSpec").only("executors")

    def component(self, name: str, place: Place, parents: tuple[str, ...]) -> Component:
        place.only("inputDefinitions", "outputDefinitions", "dag", "executorLabel")
        inputs, outputs = place.child("inputDefinitions"), place.child("outputDefinitions")
        inputs.only("parameters", "artifacts")
        outputs.only("parameters", "artifacts")
        parameters = {key: _input_parameter(item) for key, item in inputs.children("parameters").items()}
        output_types = {key: _output_type(item) for key, item in outputs.children("parameters").items()}
        artifacts = {key: _schema(item) for key, item in inputs.children("artifacts").items()}
        output_artifacts = {key: _schema(item) for key, item in outputs.children("artifacts").items()}
        _check_names(place, [*output_types, *output_artifacts])
        body: Container | Dag = Container(image="", command=(), environment={})
        if "dag" in place:
            body = self.dag(place.child("dag"), name, parents, frozenset(parameters), frozenset(artifacts))
        elif (label := place.text("executorLabel")) in self.executors:
            known = {
                placeholders.EXECUTOR_OUTPUT,
                *placeholders.RUN_PLACEHOLDERS,
                *placeholders.TASK_PLACEHOLDERS,
                *map(placeholders.input_parameter, parameters),
                *map(placeholders.output_parameter, output_types),
                *(placeholders.input_artifact(key, field) for key in artifacts for field in ("path", "uri")),
                *(placeholders.output_artifact(key, field) for key in output_artifacts for field in ("path", "uri")),
            }
            body = _container(self.executors[label], known)
        else:
            place.refuse(f"{place.name}: executor {label!r} is not in deploymentSpec.executors.{did_you_mean(label, self.executors)}")
        return Component(name=name, inputs=parameters, input_artifacts=frozenset(artifacts), outputs=output_types, output_artifacts=output_artifacts, body=body)

    def dag(self, place: Place, owner: str, parents: tuple[str, ...], parameters: frozenset[str], artifacts: frozenset[str]) -> Dag:
        place.only("tasks", "outputs")
        tasks = {name: self.task(name, item, (*parents, owner)) for name, item in place.children("tasks").items()}
        _check_names(place, tasks)
        outputs = place.child("outputs")
        outputs.only("parameters", "artifacts")
        dag = Dag(
            tasks=tasks,
            parameters={name: _output_parameter_sources(item) for name, item in outputs.children("parameters").items()},
            artifacts={name: _output_artifact_sources(item) for name, item in outputs.children("artifacts").items()},
        )
        _check_references(place, dag)
        _check_component_inputs(place, dag, parameters, artifacts)
        return dag

    def task(self, name: str, place: Place, parents: tuple[str, ...]) -> Task:
        place.only("componentRef", "inputs", "dependentTasks", "cachingOptions", "retryPolicy", "triggerPolicy", inert=("taskInfo",))
        reference = place.child("componentRef").text("name")
        if reference in parents:
            place.refuse(f"{place.name}: component {reference!r} is part of itself.")
        elif reference not in self.components:
            place.refuse(f"{place.name}: component {reference!r} is not in components.{did_you_mean(reference, self.components)}")
        known = reference in self.components and reference not in parents
        component = self.component(reference, self.components[reference] if known else Place({"dag": {}}, reference, place.problems), parents)
        inputs = place.child("inputs")
        inputs.only("parameters", "artifacts")
        parameters = {key: _parameter_source(item) for key, item in inputs.children("parameters").items()}
        artifacts = {key: _artifact_source(item) for key, item in inputs.children("artifacts").items()}
        caching = place.child("cachingOptions")
        caching.only("enableCache")
        producers = {source.task for source in [*parameters.values(), *artifacts.values()] if isinstance(source, TaskOutput)}
        task = Task(
            name=name,
            component=component,
            parameters=parameters,
            artifacts=artifacts,
            needs=frozenset({*place.texts("dependentTasks"), *producers}),
            condition=_condition(place, parameters),
            cacheable=caching.content.get("enableCache") is True,
            retry=_retry(place.child("retryPolicy")),
        )
        if known and "parameterIterator" not in place and "artifactIterator" not in place:
            _check_inputs(place, task)
        return task


def _container(place: Place, known: set[str]) -> Container:
    place.only("container")
    if "container" not in place:
        return Container(image="", command=(), environment={})  # refused by name already
    container = place.child("container")
    container.only("image", "command", "args", "env", "resources", inert=("lifecycle",))
    command = (*container.texts("command"), *container.texts("args"))
    if not container.texts("command"):
        container.refuse(f"{container.name} has no command; the embedded engine runs commands, not the entry points of images.")
    environment = {}
    for variable in container.elements("env"):
        variable.only("name", "value")
        environment[variable.text("name")] = variable.text("value", "")
    for text in (*command, *environment.values()):
        if text.startswith(('{"Concat":', '{"IfPresent":')):
            container.refuse(f"{container.name}: {text.split(':')[0][2:-1]} placeholders are not known to the embedded engine.")
        for placeholder in placeholders.unknown(text, known):
            hint = " (a lightweight Python component; make it a container component)" if placeholder == "{{$}}" else ""
            container.refuse(f"{container.name}: placeholder {placeholder} is not known to the embedded engine{hint}.")
    return Container(image=container.text("image", ""), command=command, environment=environment, resources=_resources(container.child("resources")))


def _resources(place: Place) -> Resources:
    """The limits: KFP writes them as texts and as numbers of gigabytes and processors. Requests are for schedulers."""
    place.only(
        *("cpuLimit", "memoryLimit", "resourceCpuLimit", "resourceMemoryLimit"),
        inert=("cpuRequest", "memoryRequest", "resourceCpuRequest", "resourceMemoryRequest", "accelerator"),
    )
    cpus = place.number("cpuLimit", 0.0)
    gigabytes = place.number("memoryLimit", 0.0)
    return Resources(
        memory=place.text("resourceMemoryLimit", f"{gigabytes}G" if gigabytes else ""), cpus=place.text("resourceCpuLimit", f"{cpus}" if cpus else "")
    )


def _input_parameter(place: Place) -> InputParameter:
    place.only("parameterType", "defaultValue", inert=("isOptional", "description", "literals"))
    kind = _parameter_type(place)
    default = place.json("defaultValue")
    if default is not None and not (isinstance(default, str) and "{{$" in default):
        try:
            default = typed(default, kind)
        except ValueError as error:
            place.refuse(f"{place.name}: defaultValue {error}.")
    _check_constant(place, default, ())
    return InputParameter(type=kind, default=default, required=default is None)


def _output_type(place: Place) -> ParameterType:
    place.only("parameterType", inert=("description",))
    return _parameter_type(place)


def _parameter_type(place: Place) -> ParameterType:
    name = place.text("parameterType")
    for kind in PARAMETER_TYPES:
        if kind == name:
            return kind
    place.refuse(f"{place.name}: parameterType is {name!r}; the embedded engine knows {', '.join(PARAMETER_TYPES)}.")
    return "STRING"


def _schema(place: Place) -> str:
    place.only("artifactType", inert=("isOptional", "description", "metadata", "isArtifactList"))
    if place.content.get("isArtifactList"):
        place.refuse(f"{place.name}: isArtifactList is a list of artifacts, which the embedded engine does not run.")
    artifact = place.child("artifactType")
    return artifact.text("schemaTitle", artifact.text("instanceSchema", "system.Artifact"))


def _parameter_source(place: Place) -> ParameterSource:
    place.only("componentInputParameter", "taskOutputParameter", "runtimeValue")
    if "componentInputParameter" in place:
        return ComponentInput(place.text("componentInputParameter"))
    if "taskOutputParameter" in place:
        output = place.child("taskOutputParameter")
        return TaskOutput(output.text("producerTask"), output.text("outputParameterKey"))
    value = place.child("runtimeValue")
    value.only("constant")
    return Constant(value.json("constant"))


def _artifact_source(place: Place) -> ArtifactSource:
    place.only("componentInputArtifact", "taskOutputArtifact")
    if "componentInputArtifact" in place:
        return ComponentInput(place.text("componentInputArtifact"))
    output = place.child("taskOutputArtifact")
    return TaskOutput(output.text("producerTask"), output.text("outputArtifactKey"))


def _output_parameter_sources(place: Place) -> tuple[TaskOutput, ...]:
    place.only("valueFromParameter", "valueFromOneof")
    single = [place.child("valueFromParameter")] if "valueFromParameter" in place else []
    return tuple(
        TaskOutput(item.text("producerSubtask"), item.text("outputParameterKey"))
        for item in [*single, *place.child("valueFromOneof").elements("parameterSelectors")]
    )


def _output_artifact_sources(place: Place) -> tuple[TaskOutput, ...]:
    place.only("artifactSelectors")
    return tuple(TaskOutput(item.text("producerSubtask"), item.text("outputArtifactKey")) for item in place.elements("artifactSelectors"))


def _condition(place: Place, parameters: Mapping[str, ParameterSource]) -> Condition | None:
    policy = place.child("triggerPolicy")
    policy.only("condition", "strategy")
    if policy.text("strategy", "ALL_UPSTREAM_TASKS_SUCCEEDED") not in ("ALL_UPSTREAM_TASKS_SUCCEEDED", "TRIGGER_STRATEGY_UNSPECIFIED"):
        policy.refuse(f"{policy.name}: strategy {policy.text('strategy')} (ignore_upstream_failure, ExitHandler) is not run by the embedded engine.")
    if not policy.text("condition", ""):
        return None
    try:
        condition = parse(policy.text("condition"))
    except TemplateError as error:
        policy.refuse(f"{policy.name}: {error}")
        return None
    for name in sorted(condition.inputs() - set(parameters)):
        policy.refuse(f"{policy.name}: the condition reads {name!r}, which is no input of the task.{did_you_mean(name, parameters)}")
    return condition


def _retry(place: Place) -> Retry:
    place.only("maxRetryCount", "backoffDuration", "backoffFactor", "backoffMaxDuration")
    return Retry(
        max_retries=int(place.number("maxRetryCount", 0)),
        first_wait_seconds=place.seconds("backoffDuration", 0.0),
        wait_factor=place.number("backoffFactor", 2.0),
        max_wait_seconds=place.seconds("backoffMaxDuration", 3600.0),
    )


def _check_names(place: Place, names: Iterable[str]) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            place.refuse(f"{place.name}: {name!r} cannot be a file name; names hold letters, digits, '-' and '_'.")


def _check_inputs(place: Place, task: Task) -> None:
    component = task.component
    for name in [*task.parameters, *task.artifacts]:
        known = component.inputs if name in task.parameters else component.input_artifacts
        if name not in known and not name.startswith(_CHANNEL) and name not in _RESOURCE_INPUTS:
            place.refuse(f"{place.name}: {component.name} has no input {name!r}.{did_you_mean(name, known)}")
    required = [name for name, parameter in component.inputs.items() if parameter.required]
    for name in [*required, *sorted(component.input_artifacts)]:
        if name not in task.parameters and name not in task.artifacts:
            place.refuse(f"{place.name}: input {name!r} of {component.name} is not given.")
    for source in task.parameters.values():
        if isinstance(source, Constant):
            _check_constant(place, source.value, task.parameters)
    if isinstance(component.body, Container):
        for text in (component.body.resources.memory, component.body.resources.cpus):
            _check_constant(place, text, [*task.parameters, *component.inputs])


def _check_constant(place: Place, value: Json, inputs: Iterable[str]) -> None:
    known = {*placeholders.RUN_PLACEHOLDERS, *placeholders.TASK_PLACEHOLDERS, *map(placeholders.input_parameter, inputs)}
    if isinstance(value, str):
        for placeholder in placeholders.unknown(value, known):
            place.refuse(f"{place.name}: placeholder {placeholder} is not known to the embedded engine.")
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            _check_constant(place, item, inputs)


def _check_component_inputs(place: Place, dag: Dag, parameters: frozenset[str], artifacts: frozenset[str]) -> None:
    for task in dag.tasks.values():
        for known, sources in ((parameters, task.parameters.values()), (artifacts, task.artifacts.values())):
            for name in sorted({source.name for source in sources if isinstance(source, ComponentInput)} - known):
                place.refuse(f"{place.name}: {task.name} reads the input {name!r}, which is not defined.{did_you_mean(name, known)}")


def _check_references(place: Place, dag: Dag) -> None:
    """Every named task must exist and have the named output, and no task may wait for itself."""
    sources: list[tuple[str, TaskOutput, bool]] = []
    for kind, outputs in ((True, dag.parameters), (False, dag.artifacts)):
        sources += [("outputs", source, kind) for candidates in outputs.values() for source in candidates]
    for task in dag.tasks.values():
        sources += [(task.name, source, True) for source in task.parameters.values() if isinstance(source, TaskOutput)]
        sources += [(task.name, source, False) for source in task.artifacts.values() if isinstance(source, TaskOutput)]
        for name in sorted(task.needs - set(dag.tasks)):
            place.refuse(f"{place.name}: {task.name} waits for {name!r}, which is no task.{did_you_mean(name, dag.tasks)}")
    for reader, source, is_parameter in sources:
        producer = dag.tasks.get(source.task)
        known = (producer.component.outputs if is_parameter else producer.component.output_artifacts) if producer else {}
        if source.output not in known:
            place.refuse(f"{place.name}: {reader} reads {source.output!r} of {source.task!r}, which it does not put out.{did_you_mean(source.output, known)}")
    try:
        TopologicalSorter({task.name: task.needs for task in dag.tasks.values()}).prepare()
    except CycleError as error:
        place.refuse(f"{place.name}: tasks wait for each other: {' -> '.join(error.args[1])}.")
