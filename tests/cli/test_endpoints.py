import json
from pathlib import Path

import pytest

from tests.registry.made_up import registered
from tuneline.cli import main
from tuneline.registry.endpoints import Deployment, deployment_of
from tuneline.registry.files import write_json


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """An endpoint that does not run."""
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    deployment = deployment_of(registered(tmp_path))
    write_json(tmp_path / "home" / "endpoints" / deployment.endpoint_id / "deployment.json", vars(deployment))
    return deployment


def test_endpoints_are_listed_with_their_state(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "list"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.split() == ["ENDPOINT", "ID", "STATE", "URL"]
    assert row.split("  ")[:3] == ["My model", deployment.endpoint_id, "STOPPED"]
    assert main(["endpoints", "list", "--json"]) == 0
    [endpoint] = json.loads(capsys.readouterr().out)["endpoints"]
    assert (endpoint["name"], endpoint["state"], endpoint["pid"]) == (deployment.endpoint_resource_name, "STOPPED", 0)


def test_undeploying_what_does_not_run_changes_nothing(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "undeploy", deployment.endpoint_id]) == 0
    assert main(["endpoints", "undeploy", "--all", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"undeployed": []}


@pytest.mark.parametrize(("arguments", "code"), [([], 2), (["x", "--all"], 2), (["unknown"], 1)])
def test_what_cannot_be_undeployed_is_said(deployment: Deployment, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "undeploy", *arguments]) == code
    assert "tuneline endpoints" in capsys.readouterr().err


def test_an_unknown_model_cannot_be_deployed(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "deploy", "another"]) == 1
    assert "no model 'another'" in capsys.readouterr().err
