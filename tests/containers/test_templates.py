"""The compiled templates, byte for byte, under stock KFP in the containers that they name: equal to the embedded engine to the bit."""

import json
from collections.abc import Callable

import pytest

from tests.containers.reference import TEMPLATES, Reference, assert_equal_outputs
from tests.containers.stock_kfp import KfpRun

TASKS = ["validate-parameters", "transform-dataset", "tune-model", "evaluate-model", "select-checkpoint", "upload-model", "deploy-model"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_in_containers_equals_the_embedded_engine(template: str, kfp_run: Callable[[str], KfpRun], reference: Callable[[str], Reference]) -> None:
    run = kfp_run(template)
    assert sorted(run.tasks) == sorted(TASKS)
    assert_equal_outputs(run.outputs, reference(template).outputs)
    assert run.outputs.dataset.stat().st_uid == 10001
    assert run.parameters == {"model_resource_name": "", "endpoint_resource_name": ""}
    assert (run.tasks["select-checkpoint"] / "report").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert json.loads((run.tasks["upload-model"] / "uploaded").read_text(encoding="utf-8")) == {}
