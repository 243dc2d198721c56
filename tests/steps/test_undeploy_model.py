"""The step that takes a model off its endpoint: flags in, one word out."""

from pathlib import Path

import pytest

from tests.vertex.bench import Deploying
from tests.vertex.fake_cloud import cloud_of
from tuneline.errors import ParameterError
from tuneline.steps import undeploy_model


def run(tmp_path: Path, endpoint: str, deployed_model_id: str) -> str:
    flags = ["--endpoint-resource-name", endpoint, "--deployed-model-id", deployed_model_id]
    undeploy_model.main([*flags, "--output-undeployed", str(tmp_path / "undeployed"), "--executor-output", str(tmp_path / "executor.json")])
    return (tmp_path / "undeployed").read_text()


def test_a_model_whose_time_is_over_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Deploying()
    monkeypatch.setattr(undeploy_model, "Vertex", lambda region: cloud_of(world.api, world.objects, world.time.clock).vertex(region))
    record = world.deploy(undeploy_after_hours=3)
    name, own = record["name"], record["deployedModelId"]
    assert run(tmp_path, name, own) == "false"
    world.api.endpoints[name]["labels"][f"tuneline-undeploy-{own}"] = "20200101t000000z"
    assert run(tmp_path, name, own) == "true"
    assert run(tmp_path, name, own) == "false"


@pytest.mark.parametrize("name", ["", "7", "projects/p/locations/l/models/7"])
def test_what_is_no_endpoint_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParameterError, match="endpoint_resource_name: found"):
        run(tmp_path, name, "1")
