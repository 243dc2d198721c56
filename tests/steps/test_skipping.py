"""A task of a run that has nothing to do, for every component as its template calls it."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kfp.dsl.container_component_class import ContainerComponent

from components import COMPONENTS
from tests.steps.test_upload_model import resolved
from tuneline.steps.skipping import is_skipped

REASON = "projects/p/locations/l/models/1@1 was tuned from the same data with the same parameters."
LATER = [component for component in COMPONENTS if "resolved" in component.component_spec.inputs]
each_later_component = pytest.mark.parametrize("component", LATER, ids=lambda component: str(component.name))


def arguments(component: ContainerComponent, folder: Path, *, reason: str) -> list[str]:
    """The flags as an orchestrator fills them in: a file below `folder` for each path, a text for each parameter."""
    [executor] = component.pipeline_spec.deployment_spec["executors"].values()
    sent = [str(argument) for argument in dict(executor["container"].items())["args"]]
    (folder / "resolved").write_text(replace(resolved(), skip_reason=reason).to_json())
    values = [str(folder / flag.removeprefix("--").replace("-", "_")) if re.search(r"path|output_file", value) else "x" for flag, value in pairs(sent)]
    return [text for (flag, _), value in zip(pairs(sent), values, strict=True) for text in (flag, value)]


def pairs(arguments: list[str]) -> list[tuple[str, str]]:
    return list(zip(arguments[::2], arguments[1::2], strict=True))


@each_later_component
def test_every_output_is_there_and_says_why_it_is_empty(component: ContainerComponent, tmp_path: Path) -> None:
    assert is_skipped(arguments(component, tmp_path, reason=REASON))
    outputs = component.component_spec.outputs
    artifacts = {name for name, output in outputs.items() if output.type != "String"}
    assert artifacts
    for name in outputs:
        assert (tmp_path / f"output_{name}").read_text() == ("{}\n" if name in artifacts else "")
    executed = json.loads((tmp_path / "executor_output").read_text())
    assert executed == {
        "artifacts": {name: {"artifacts": [{"name": name, "uri": str(tmp_path / f"output_{name}"), "metadata": {"skipped": REASON}}]} for name in artifacts}
    }


@each_later_component
def test_a_task_that_has_something_to_do_is_left_alone(component: ContainerComponent, tmp_path: Path) -> None:
    assert not is_skipped(arguments(component, tmp_path, reason=""))
    assert [path.name for path in tmp_path.iterdir()] == ["resolved"]


@pytest.mark.parametrize("argv", [[], ["--resolved"], ["--resolved", "/nowhere/resolved"], ["--help"]])
def test_what_is_wrong_with_the_flags_is_for_the_step_to_tell(argv: list[str]) -> None:
    assert not is_skipped(argv)


def test_a_skipped_step_loads_no_model_library_and_ends_well(tmp_path: Path) -> None:
    [component] = [component for component in LATER if component.name == "tune-model"]
    program = "import sys, runpy\ntry: runpy.run_module('tuneline.steps.tune_model', run_name='__main__')\nfinally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", program, *arguments(component, tmp_path, reason=REASON)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert f"skipped: {REASON}" in done.stderr
