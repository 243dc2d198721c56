"""The model garden: a folder of weights becomes a model and an endpoint in one request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, error, model_folder, of_its_own, opened, start_fake_servers
from tuneline.api.resources import endpoint_deployments, model_garden
from tuneline.registry import models


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as bench:
        start_fake_servers(patch)
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Bench:
    return of_its_own(shared)


def garden(bench: Bench, **body: Any) -> dict[str, Any]:
    return bench.done(f"/v1beta1/{bench.place}:deploy", body)


def test_a_folder_is_deployed_with_the_machine_recorded(bench: Bench) -> None:
    model_folder(bench.service.settings.home / "buckets" / "bucket" / "out" / "checkpoints" / "final")
    machine = {"machineSpec": {"machineType": "g2-standard-12", "acceleratorType": 11, "acceleratorCount": 1}, "minReplicaCount": 1, "maxReplicaCount": 1}
    answer = garden(bench, customModel={"gcsUri": "gs://bucket/out/checkpoints/final"}, deployConfig={"dedicatedResources": machine})
    assert answer["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.DeployResponse"
    assert answer["publisherModel"] == ""
    model, endpoint = bench.get(answer["model"]), bench.get(answer["endpoint"])
    assert (model["displayName"], model["artifactUri"]) == ("checkpoints-final", "gs://bucket/out/checkpoints/final")
    [deployed] = endpoint["deployedModels"]
    assert deployed["dedicatedResources"]["machineSpec"] == {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}
    predictions = bench.client.post(f"/v1/{answer['endpoint']}:predict", json={"instances": [{"prompt": "x", "raw_response": True}]}).json()["predictions"]
    assert predictions[0]["content"].startswith("checkpoints-final")


def test_names_may_be_given(bench: Bench, tmp_path: Path) -> None:
    answer = garden(
        bench, custom_model={"gcs_uri": str(model_folder(tmp_path / "m"))}, model_config={"model_display_name": "a model", "model_user_id": "mine"},
        endpoint_config={"endpoint_display_name": "an endpoint", "endpoint_user_id": "e-1"},
    )  # fmt: skip
    assert (answer["model"], answer["endpoint"]) == (f"{bench.place}/models/mine@1", f"{bench.place}/endpoints/e-1")
    assert (bench.get(answer["model"])["displayName"], bench.get(answer["endpoint"])["displayName"]) == ("a model", "an endpoint")


def test_a_publishers_model_that_is_here_is_deployed(bench: Bench) -> None:
    answer = garden(bench, publisherModelName="publishers/google/models/code-bison@002", modelConfig={"acceptEula": True})
    assert answer["publisherModel"] == "publishers/google/models/code-bison@002"
    assert bench.get(answer["endpoint"])["displayName"] == "code-bison@002"


@pytest.mark.parametrize("damage", ["broken", "no weights"])
def test_what_fails_leaves_nothing_behind(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    folder = model_folder(tmp_path / "m")
    if damage == "broken":
        monkeypatch.setattr(endpoint_deployments, "LOADING_SECONDS", 0)
    else:
        (folder / "model.safetensors").unlink()
    operation = bench.client.post(f"/v1beta1/{bench.place}:deploy", json={"customModel": {"gcsUri": str(folder)}}).json()
    assert operation["name"].startswith(f"{bench.place}/operations/")
    told = bench.ended(operation)["error"]["message"]
    assert ("was not healthy within 0 s" if damage == "broken" else "expected the folder of a model") in told
    assert bench.get(f"{bench.place}/endpoints") == {"endpoints": []}
    assert bench.get(f"{bench.place}/models") == {"models": []}
    assert bench.place.split("/")[1] not in {version.registration.project for version in models.list_versions()}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "found 0 models; expected one of customModel.gcsUri"),
        ({"customModel": {"gcsUri": "gs://b/m"}, "huggingFaceModelId": "a/b"}, "found 2 models"),
        ({"customModel": {"gcsUri": "b/m"}}, "expected a gs:// URI"),
        ({"huggingFaceModelId": "acme/model"}, "not on this machine, and this service downloads none"),
        ({"publisherModelName": "google/code-bison"}, "expected publishers/PUBLISHER/models/MODEL@VERSION"),
        ({"publisherModelName": "publishers/google/models/code-bisn"}, "does not exist"),
        ({"customModel": {"gcsUri": "gs://b/m"}, "deployConfig": {"dedicatedResources": {"machineSpec": {"acceleratorType": "L4"}}}}, "acceleratorType"),
    ],
)
def test_a_wrong_request_is_refused(bench: Bench, body: dict[str, Any], told: str) -> None:
    assert told in error(bench.client.post(f"/v1beta1/{bench.place}:deploy", json=body))[2]


@pytest.mark.parametrize(("has_gpu", "memory", "state"), [(False, 1 << 40, "USER_HAS_QUOTA"), (False, 1, "NO_USER_QUOTA"), (True, 1, "USER_HAS_QUOTA")])
def test_the_only_recommendation_is_this_machine(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_gpu: bool, memory: int, state: str) -> None:
    monkeypatch.setattr(model_garden, "has_gpu", lambda: has_gpu)
    assert model_garden.memory_bytes() > 1 << 28
    monkeypatch.setattr(model_garden, "memory_bytes", lambda: memory)
    body = {"gcsUri": str(model_folder(tmp_path / "m")), "checkMachineAvailability": True, "checkUserQuota": True}
    assert bench.client.post(f"/v1beta1/{bench.place}:recommendSpec", json=body).json() == {
        "recommendations": [{"region": "us-central1", "spec": {"machineSpec": {"machineType": "local"}}, "userQuotaState": f"QUOTA_STATE_{state}"}]
    }
    (tmp_path / "m" / "model.safetensors").unlink()
    assert "no *.safetensors" in error(bench.client.post(f"/v1beta1/{bench.place}:recommendSpec", json=body))[2]
