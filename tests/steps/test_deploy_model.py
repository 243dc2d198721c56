"""The step from files to files; no server is started by it."""

import json
from pathlib import Path

import pytest

from tests.registry.made_up import registered
from tests.steps.test_upload_model import resolved
from tuneline.errors import ModelError, NotFoundError, ParameterError
from tuneline.registry import endpoints, models
from tuneline.registry.endpoints import Deployment
from tuneline.steps.deploy_model import main


class Task:
    """One run of the step in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "resolved.json").write_text(resolved().to_json())
        self.model = registered(folder)

    def run(self, **parameters: str) -> str:
        """The endpoint's resource name."""
        flags = {
            "project": "acme", "model-display-name": "My model", "pipeline-job-name": "job-1", "deploy-model": "True",
            "model-resource-name": self.model.resource_name, "resolved": str(self.folder / "resolved.json"),
            "model": str(self.folder / "checkpoint of job-1"), "output-endpoint": str(self.folder / "out/endpoint"),
            "output-endpoint-resource-name": str(self.folder / "out/name"), "executor-output": str(self.folder / "out/executor.json"),
        }  # fmt: skip
        flags |= {name.replace("_", "-"): value for name, value in parameters.items()}
        main([word for name, value in flags.items() for word in (f"--{name}", value)])
        return (self.folder / "out/name").read_text()

    def record(self) -> dict[str, object]:
        record: dict[str, object] = json.loads((self.folder / "out/endpoint").read_text())
        return record


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Task:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    return Task(tmp_path)


def test_the_record_says_what_the_engine_shall_start(task: Task) -> None:
    name = task.run()
    deployment = Deployment.from_mapping(task.record())
    assert deployment.endpoint_resource_name == name
    assert deployment.model_resource_name == task.model.resource_name
    assert Path(deployment.model_path) == task.model.artifact_folder
    assert deployment.idle_timeout_seconds == 1800
    assert endpoints.list_endpoints() == []
    [artifact] = json.loads((task.folder / "out/executor.json").read_text())["artifacts"]["endpoint"]["artifacts"]
    assert artifact["metadata"] == {"resourceName": name}
    assert artifact["uri"] == str(task.folder / "out/endpoint")


def test_a_second_attempt_writes_the_same_record(task: Task) -> None:
    first = task.run(), task.record()
    assert (task.run(), task.record()) == first


def test_with_deployment_off_everything_is_empty(task: Task) -> None:
    (task.folder / "resolved.json").write_text(resolved("vertex").to_json())
    assert task.run(deploy_model="false", model_resource_name="") == ""
    assert task.record() == {}


def test_a_model_that_was_not_registered_cannot_be_deployed(task: Task) -> None:
    with pytest.raises(ParameterError, match="only a registered model can be deployed"):
        task.run(model_resource_name="", upload_model="false")
    with pytest.raises(NotFoundError, match="no model"):
        task.run(model_resource_name="projects/acme/locations/local/models/1@1")


def test_a_model_that_the_champion_s_gate_kept_out_is_not_deployed_and_that_is_no_error(task: Task) -> None:
    assert task.run(model_resource_name="", upload_model="true") == ""
    assert task.record() == {}


def test_a_damaged_model_is_not_deployed(task: Task) -> None:
    (models.get("latest").artifact_folder / "config.json").write_text("damaged")
    with pytest.raises(ModelError, match=r"config\.json"):
        task.run()


@pytest.mark.parametrize("backend", ["vertex", "kubernetes"])
def test_other_back_ends_are_refused_by_name(task: Task, backend: str) -> None:
    (task.folder / "resolved.json").write_text(resolved().to_json().replace('"backend": "local"', f'"backend": "{backend}"'))
    with pytest.raises(ParameterError, match="deploying to Vertex is not built yet"):
        task.run()
