import copy
from pathlib import Path

import pytest
import yaml

from tests.local.fake_pipelines import Fake, From, pipeline
from tuneline.errors import TemplateError
from tuneline.local.limits import Resources
from tuneline.local.reading import read_pipeline
from tuneline.local.spec import Container, Dag, TaskOutput
from tuneline.templates import load, names

MAKE = Fake(script="", takes={"text": From("text"), "n": 3}, puts={"count": "NUMBER_INTEGER"}, makes={"data": "system.Dataset"})
USE = Fake(script="", takes={"count": From("make.count", "NUMBER_INTEGER")}, reads={"data": "make.data"}, after=["make"], retries=2)
GOOD = pipeline({"make": MAKE, "use": USE}, inputs={"text": str})


def changed(path: str, value: object) -> dict:
    """The good pipeline with one entry replaced; the path's keys are separated by spaces."""
    spec = copy.deepcopy(GOOD)
    *parents, last = path.split()
    place = spec
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return spec


def refusal(spec: object) -> str:
    with pytest.raises(TemplateError) as caught:
        read_pipeline(spec)
    return str(caught.value)


def test_tasks_inputs_and_dependencies_are_read() -> None:
    read = read_pipeline(GOOD)
    use = read.dag.tasks["use"]
    assert use.needs == {"make"}
    assert use.parameters["count"] == TaskOutput("make", "count")
    assert use.retry.max_retries == 2
    assert not use.cacheable
    assert read.root.inputs["text"].required


@pytest.mark.parametrize("name", names())
def test_the_templates_of_this_package_are_read(name: str) -> None:
    assert len(read_pipeline(load(name).spec).dag.tasks) == 7


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("root dag tasks use parameterIterator", {"itemInput": "x", "items": {"raw": "[]"}}, "parameterIterator is a loop over parameters"),
        ("root dag tasks use artifactIterator", {}, "artifactIterator is a loop over artifacts"),
        ("root dag tasks use triggerPolicy", {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}, "ALL_UPSTREAM_TASKS_COMPLETED"),
        ("root dag tasks use triggerPolicy", {"condition": "size('x') == 1"}, "cannot be read at"),
        ("root dag tasks use triggerPolicy", {"condition": "inputs.parameter_values['coun'] == 1"}, "Did you mean 'count'?"),
        ("root dag tasks use inputs parameters count", {"taskFinalStatus": {"producerTask": "make"}}, "exit handler"),
        ("root dag tasks use inputs parameters count", {"taskOutputParameter": {"producerTask": "mak", "outputParameterKey": "count"}}, "'mak'"),
        ("root dag tasks use inputs parameters", {}, "input 'count' of comp-use is not given"),
        ("root dag tasks use inputs artifacts", {}, "input 'data' of comp-use is not given"),
        ("root dag tasks use inputs parameters cuont", {"runtimeValue": {"constant": 1}}, "Did you mean 'count'?"),
        ("root dag tasks use inputs parameters count", {"runtimeValue": {"constant": "{{$.nowhere}}"}}, "placeholder {{$.nowhere}}"),
        ("root dag tasks use dependentTasks", ["mkae"], "Did you mean 'make'?"),
        ("root dag tasks make dependentTasks", ["use"], "tasks wait for each other"),
        ("root dag tasks use componentRef name", "comp-us", "Did you mean 'comp-use'?"),
        ("root dag tasks use cachingOption", {}, "Did you mean 'cachingOptions'?"),
        ("root dag tasks use iteratorPolicy", {"parallelismLimit": 1}, "iteratorPolicy is a loop"),
        ("root dag tasks ../up", {"componentRef": {"name": "comp-make"}}, "cannot be a file name"),
        ("components comp-use executorLabel", "exec-us", "Did you mean 'exec-use'?"),
        ("components comp-make outputDefinitions parameters ../x", {"parameterType": "STRING"}, "cannot be a file name"),
        ("components comp-make outputDefinitions parameters count parameterType", "NUMBER", "parameterType is 'NUMBER'"),
        ("deploymentSpec executors exec-use", {"importer": {"artifactUri": {"constant": "x"}}}, "importer is an importer"),
        ("deploymentSpec executors exec-use container args", ["{{$.inputs.parameters['cout']}}"], "placeholder {{$.inputs.parameters['cout']}}"),
        ("deploymentSpec executors exec-use container args", ["--executor_input", "{{$}}"], "lightweight Python component"),
        ("deploymentSpec executors exec-use container args", ['{"Concat": ["a", "b"]}'], "Concat placeholders"),
        ("deploymentSpec executors exec-use container command", [], "has no command"),
        ("deploymentSpec executors exec-use container command", "python", "must be a list"),
        ("root inputDefinitions artifacts", {"base": {"artifactType": {"schemaTitle": "system.Model"}}}, "'base' is an input artifact of the pipeline"),
        ("schemaVersion", "3.0.0", "schemaVersion is '3.0.0'"),
        ("root dag", [], "must be a mapping"),
    ],
)
def test_what_is_unknown_or_wrong_is_refused_by_name(path: str, value: object, named: str) -> None:
    assert named in refusal(changed(path, value))


RESOURCES = "deploymentSpec executors exec-use container resources"


@pytest.mark.parametrize(
    ("resources", "read"),
    [
        ({"cpuLimit": 0.5, "memoryLimit": 0.064, "resourceCpuLimit": "500m", "resourceMemoryLimit": "64M"}, Resources(memory="64M", cpus="500m")),
        ({"cpuLimit": 2.0, "memoryLimit": 1.5}, Resources(memory="1.5G", cpus="2.0")),
        ({"cpuRequest": 1.0, "resourceMemoryRequest": "1Gi", "accelerator": {"count": "1", "type": "nvidia.com/gpu"}}, Resources()),
        ({"resourceMemoryLimit": "{{$.inputs.parameters['count']}}"}, Resources(memory="{{$.inputs.parameters['count']}}")),
    ],
    ids=str,
)
def test_limits_are_read_as_kfp_writes_them(resources: dict[str, object], read: Resources) -> None:
    body = read_pipeline(changed(RESOURCES, resources)).dag.tasks["use"].component.body
    assert isinstance(body, Container)
    assert body.resources == read


def test_a_limit_that_is_a_parameter_comes_with_inputs_of_its_own() -> None:
    spec = changed(RESOURCES, {"resourceMemoryLimit": "{{$.inputs.parameters['pipelinechannel--memory']}}"})
    inputs = spec["root"]["dag"]["tasks"]["use"]["inputs"]["parameters"]
    inputs["memory_limit"] = {"runtimeValue": {"constant": "{{$.inputs.parameters['pipelinechannel--memory']}}"}}
    assert "placeholder {{$.inputs.parameters['pipelinechannel--memory']}} is not known" in refusal(spec)
    inputs["pipelinechannel--memory"] = {"componentInputParameter": "text"}
    read_pipeline(spec)


def test_a_resource_that_is_not_known_is_refused() -> None:
    assert "Did you mean 'resourceMemoryLimit'?" in refusal(changed(RESOURCES, {"resourceMemoryLimits": "1Gi"}))


def test_all_problems_are_told_at_once() -> None:
    spec = changed("root dag tasks use parameterIterator", {})
    spec["root"]["dag"]["tasks"]["make"]["retryPolicy"] = {"maxRetryCount": "three"}
    assert len(refusal(spec).splitlines()) == 2


def test_a_component_that_is_part_of_itself_is_refused() -> None:
    spec = copy.deepcopy(GOOD)
    spec["components"]["comp-loop"] = {"dag": {"tasks": {"again": {"componentRef": {"name": "comp-loop"}}}}}
    spec["root"]["dag"]["tasks"]["loop"] = {"componentRef": {"name": "comp-loop"}}
    assert "part of itself" in refusal(spec)


def test_a_foreign_template_as_kfp_compiles_it_is_read() -> None:
    read = read_pipeline(yaml.safe_load((Path(__file__).parent / "conditions.yaml").read_text(encoding="utf-8")))
    branches = read.dag.tasks["condition-branches-1"].component.body
    assert isinstance(branches, Dag)
    assert {task.condition is None for task in branches.tasks.values()} == {False}
