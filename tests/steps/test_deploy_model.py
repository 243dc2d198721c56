"""The step from files to files; no server is started by it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.registry.made_up import registered
from tests.steps.test_upload_model import resolved
from tests.vertex.bench import L4, Deploying
from tests.vertex.fake_cloud import cloud_of
from tuneline.errors import ModelError, NotFoundError, ParameterError
from tuneline.registry import endpoints, models
from tuneline.registry.endpoints import Deployment
from tuneline.steps import deploying, kubernetes_deploy
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
            "undeploy-image": "i", "model": str(self.folder / "checkpoint of job-1"), "output-endpoint": str(self.folder / "out/endpoint"),
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


def test_the_labels_of_the_run_are_the_endpoints(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEX_AI_PIPELINES_RUN_LABELS", json.dumps({"team": "a"}))
    task.run()
    labels = Deployment.from_mapping(task.record()).labels
    assert (labels["team"], set(labels)) == ("a", {"team", "tuneline-run"})


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


def test_on_vertex_the_registered_version_gets_an_endpoint(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    world = Deploying()
    monkeypatch.setattr(deploying, "Cloud", lambda: cloud_of(world.api, world.objects, world.time.clock))
    monkeypatch.setenv("VERTEX_AI_PIPELINES_RUN_LABELS", '{"team": "code"}')
    (task.folder / "resolved.json").write_text(replace(resolved("vertex"), upload_region="us-central1", serving=L4).to_json())
    given = {"model": world.uri.replace("gs://", "/gcs/"), "model_resource_name": world.model, "undeploy_after_hours": "2.0"}
    name = task.run(**given)
    endpoint = world.api.endpoints[name]
    assert [deployed["dedicatedResources"]["machineSpec"]["machineType"] for deployed in endpoint["deployedModels"]] == ["g2-standard-12"]
    assert {key: value for key, value in endpoint["labels"].items() if "undeploy" not in key} == {"team": "code", "tuneline-run": "job-1"}
    assert (task.record()["name"], task.record()["model"]) == (name, world.model)
    assert task.run(**given) == name
    assert len(world.api.asked(":deployModel")) == 1


def test_in_a_cluster_kserve_serves_the_model_from_where_it_is(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[tuple[dict[str, Any], float]] = []

    class Recorded:
        def serve(self, manifest: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
            served.append((manifest, timeout_seconds))
            return {"status": {"url": "http://m.example.com"}}

    monkeypatch.setattr(kubernetes_deploy, "Cluster", Recorded)
    monkeypatch.setattr(kubernetes_deploy, "own_namespace", lambda: "team-a")
    (task.folder / "resolved.json").write_text(replace(resolved("kubernetes"), serving=L4).to_json())
    name = task.run(model_resource_name="gs://b/run/checkpoint-20", max_replica_count="2")
    [(manifest, timeout_seconds)] = served
    assert name == f"namespaces/team-a/inferenceservices/{manifest['metadata']['name']}"
    assert (manifest["spec"]["predictor"]["model"]["storageUri"], manifest["spec"]["predictor"]["maxReplicas"]) == ("gs://b/run/checkpoint-20", 2)
    assert timeout_seconds == 1860
    assert task.record()["url"] == "http://m.example.com"


def test_without_a_machine_nothing_is_deployed_outside(task: Task) -> None:
    (task.folder / "resolved.json").write_text(resolved("vertex").to_json())
    with pytest.raises(ParameterError, match="chose no machine"):
        task.run()
