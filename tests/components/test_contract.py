"""What a component sends is what its step takes."""

import importlib
import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml
from kfp.dsl.container_component_class import ContainerComponent

from components import COMPONENTS, images
from tuneline.interface import flag, flags, is_required, parse

ROOT = Path(__file__).parents[2]
WHOLE_PLACEHOLDER = re.compile(
    r"\{\{\$\.(inputs\.parameters\['(?P<parameter>\w+)'\]|inputs\.artifacts\['(?P<artifact>\w+)'\]\.path|outputs\.parameters\['(?P<output>\w+)'\]\.output_file"
    r"|outputs\.artifacts\['(?P<output_artifact>\w+)'\]\.path|(?P<executor>outputs\.output_file))\}\}"
)
ALLOWED_IMAGES = {images.BASE, images.TUNER}
HANDED_ON = {"--tuner-image": images.TUNER, "--serving-image": images.PREDICTOR, "--undeploy-image": images.BASE}
"""Images that a task does not run in but hands on. They are texts of the template, so that a template can be pointed at another registry."""


def module_name(component: ContainerComponent) -> str:
    return str(component.name).replace("-", "_")


def container(component: ContainerComponent) -> dict[str, object]:
    spec = component.pipeline_spec
    [executor] = spec.deployment_spec["executors"].values()
    return dict(executor["container"].items())


def arguments(component: ContainerComponent) -> list[str]:
    return list(container(component)["args"])


def step_groups(component: ContainerComponent) -> tuple[type, ...]:
    groups: tuple[type, ...] = importlib.import_module(f"tuneline.steps.{module_name(component)}").FLAGS
    return groups


each_component = pytest.mark.parametrize("component", COMPONENTS, ids=module_name)


def test_there_is_one_file_for_each_component() -> None:
    helpers = {"__init__", "images", "step"}
    assert {file.stem for file in (ROOT / "components").glob("*.py")} - helpers == {module_name(component) for component in COMPONENTS}
    assert len(COMPONENTS) == 8


@each_component
def test_component_runs_the_step_of_its_own_name(component: ContainerComponent) -> None:
    assert list(container(component)["command"]) == ["python", "-m", f"tuneline.steps.{module_name(component)}"]


@each_component
def test_component_uses_an_image_of_this_version(component: ContainerComponent) -> None:
    assert container(component)["image"] in ALLOWED_IMAGES


@each_component
def test_step_accepts_every_flag_its_component_sends(component: ContainerComponent) -> None:
    sent = set(arguments(component)[::2])
    assert sent
    assert sent == {name for group in step_groups(component) for name in flags(group)}


@each_component
def test_every_value_is_one_placeholder_and_its_flag_is_named_after_it(component: ContainerComponent) -> None:
    sent = arguments(component)
    for given, value in zip(sent[::2], sent[1::2], strict=True):
        if given in HANDED_ON:
            assert value == HANDED_ON[given]
            continue
        match = WHOLE_PLACEHOLDER.fullmatch(value)
        assert match, f"{given} {value}"
        output = match["output"] or match["output_artifact"]
        expected = "executor_output" if match["executor"] else f"output_{output}" if output else match["parameter"] or match["artifact"]
        assert given == flag(expected)


@each_component
def test_every_input_and_output_is_sent(component: ContainerComponent) -> None:
    spec = component.component_spec
    expected = {flag(name) for name in spec.inputs} | {flag(f"output_{name}") for name in spec.outputs} | {"--executor-output"}
    assert set(arguments(component)[::2]) - set(HANDED_ON) == expected


@each_component
def test_every_input_and_output_is_described(component: ContainerComponent) -> None:
    spec = component.component_spec
    assert spec.description
    assert [name for name, described in {**spec.inputs, **spec.outputs}.items() if not described.description] == []


def as_orchestrators_write(value: object) -> str:
    """Numbers as floats, booleans as JSON."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@each_component
def test_step_understands_the_values_as_orchestrators_write_them(component: ContainerComponent) -> None:
    file = ROOT / "compiled/components" / f"{module_name(component)}.yaml"
    inputs = yaml.safe_load(file.read_text(encoding="utf-8"))["root"]["inputDefinitions"]["parameters"]
    values = {flag(name): as_orchestrators_write(definition.get("defaultValue", "text")) for name, definition in inputs.items()}
    argv = [part for given in arguments(component)[::2] for part in (given, values.get(given, "/some/path"))]
    for group in parse(argv, *step_groups(component)):
        for field in fields(group):
            if not is_required(field):
                assert getattr(group, field.name) == field.default
