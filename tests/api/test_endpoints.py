"""Endpoints: models behind them, their traffic, and the servers' lives: with the service, without it, and against it."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, error, model_folder, of_its_own, opened, start_fake_servers
from tuneline.api.faults import Fault
from tuneline.api.resources import endpoint_deployments
from tuneline.api.resources import endpoint_traffic as traffic
from tuneline.api.resources.endpoint_messages import DeployedModel, DeployModelRequest
from tuneline.registry import endpoints as registry
from tuneline.registry import models
from tuneline.registry.processes import ProcessIdentity


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as bench:
        start_fake_servers(patch)
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Bench:
    return of_its_own(shared)


@pytest.fixture
def model(bench: Bench, tmp_path: Path) -> str:
    return bench.upload(model_folder(tmp_path / "model"), "served")


def predicted(bench: Bench, endpoint: str) -> str:
    answer = bench.client.post(f"/v1/{endpoint}:predict", json={"instances": [{"content": "x"}]})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["predictions"][0]["content"]).partition(":")[0]


def process_of(endpoint: str, deployed_model_id: str) -> ProcessIdentity:
    server = registry.get(endpoint_deployments.server_id(endpoint, deployed_model_id))
    assert server is not None
    assert server.report is not None
    return server.report.process


def wait_for_server(endpoint: str, deployed_model_id: str) -> ProcessIdentity:
    deadline = time.monotonic() + 60
    while (server := registry.get(endpoint_deployments.server_id(endpoint, deployed_model_id))) is None or server.state != "RUNNING":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process_of(endpoint, deployed_model_id)


def test_a_model_is_deployed_answers_and_is_undeployed(bench: Bench, model: str) -> None:
    endpoint = bench.new_endpoint("e", labels={"a": "b"})
    assert bench.get(endpoint) | {"createTime": "", "updateTime": ""} == {
        "name": endpoint, "displayName": "e", "labels": {"a": "b"}, "deployedModels": [], "trafficSplit": {}, "createTime": "", "updateTime": "",
    }  # fmt: skip
    machine = {"machineSpec": {"machineType": "g2-standard-12", "acceleratorType": 11, "acceleratorCount": 1.0}, "minReplicaCount": 1}
    operation = bench.client.post(f"/v1/{endpoint}:deployModel", json={"deployedModel": {"model": model, "dedicatedResources": machine}}).json()
    assert operation["done"] is False
    deployed = bench.ended(operation)["response"]["deployedModel"]
    assert deployed["dedicatedResources"]["machineSpec"] == {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}
    name, _, number = model.partition("@")
    assert (deployed["model"], deployed["modelVersionId"], deployed["displayName"]) == (name, number, "served")
    after = bench.get(endpoint)
    assert after["trafficSplit"] == {deployed["id"]: 100}
    assert after["deployedModels"] == [{**deployed, "status": {"message": "Running", "availableReplicaCount": 1}}]
    assert bench.get(name)["deployedModels"] == [{"endpoint": endpoint, "deployedModelId": deployed["id"]}]
    answer = bench.client.post(f"/v1/{endpoint}:predict", json={"instances": [{"content": "x"}]}).json()
    assert answer == {
        "predictions": [{"content": "served: {'content': 'x'}"}], "deployedModelId": deployed["id"], "model": name, "modelVersionId": number,
        "modelDisplayName": "served",
    }  # fmt: skip
    assert error(bench.client.delete(f"/v1/{endpoint}"))[1] == "FAILED_PRECONDITION"
    code, status, message = error(bench.client.delete(f"/v1/{name}"))
    assert (code, status) == (400, "FAILED_PRECONDITION")
    assert endpoint in message
    process = process_of(endpoint, deployed["id"])
    bench.done(f"/v1/{endpoint}:undeployModel", {"deployedModelId": deployed["id"]})
    assert not process.is_alive()
    assert bench.get(endpoint)["trafficSplit"] == {}
    assert error(bench.client.post(f"/v1/{endpoint}:predict", json={"instances": []}))[1] == "FAILED_PRECONDITION"
    assert bench.client.delete(f"/v1/{endpoint}").json()["response"]["@type"].endswith("google.protobuf.Empty")
    assert bench.client.get(f"/v1/{endpoint}").status_code == 404
    assert bench.client.delete(f"/v1/{name}").status_code == 200


def test_several_models_share_the_traffic_as_they_are_told(bench: Bench, model: str, tmp_path: Path) -> None:
    endpoint, other = bench.new_endpoint(), bench.upload(model_folder(tmp_path / "other"), "other")
    first = bench.deploy(endpoint, model, id="1")
    second = bench.deploy(endpoint, other, displayName="the other", trafficSplit={"0": 100, first: 0})
    assert (first, bench.get(endpoint)["trafficSplit"]) == ("1", {second: 100})
    assert predicted(bench, endpoint) == "the other"

    def split(**shares: int) -> Any:
        return bench.client.patch(f"/v1/{endpoint}", params={"updateMask": "trafficSplit"}, json={"trafficSplit": shares})

    assert split(**{first: 100}).json()["trafficSplit"] == {first: 100}
    assert predicted(bench, endpoint) == "served"
    split(**{first: 50, second: 50})
    assert {predicted(bench, endpoint) for _ in range(40)} == {"served", "the other"}
    assert "make 90; expected 100" in error(split(**{first: 90}))[2]
    assert "'7' is no deployed model" in error(split(**{"7": 100}))[2]
    refused = bench.client.post(f"/v1/{endpoint}:undeployModel", json={"deployedModelId": first})
    assert "Give it to others first" in error(refused)[2]
    bench.done(f"/v1/{endpoint}:undeployModel", {"deployedModelId": first, "trafficSplit": {second: 100}})
    assert predicted(bench, endpoint) == "the other"
    assert split().json()["trafficSplit"] == {}
    assert "empty trafficSplit" in error(bench.client.post(f"/v1/{endpoint}:predict", json={"instances": []}))[2]


def test_the_endpoint_of_a_pipeline_job_is_an_endpoint_until_it_is_undeployed(bench: Bench, tmp_path: Path) -> None:
    version = bench.tuned(tmp_path)
    name = registry.start(asdict(registry.deployment_of(version, labels={"team": "a"}))).deployment.endpoint_resource_name
    assert predicted(bench, name) == "tuned"
    [endpoint] = bench.get(f"{bench.place}/endpoints", filter="labels.team=a")["endpoints"]
    assert (endpoint["name"], endpoint["displayName"], endpoint["labels"]) == (name, "tuned", {"team": "a"})
    [deployed] = endpoint["deployedModels"]
    assert (deployed["model"], deployed["modelVersionId"]) == (version.name, "1")
    assert bench.get(version.name)["deployedModels"] == [{"endpoint": name, "deployedModelId": deployed["id"]}]
    registry.undeploy(registry.find(name))
    assert bench.get(name)["deployedModels"] == []
    registry.start(asdict(registry.deployment_of(version)))
    assert predicted(bench, name) == "tuned"
    bench.done(f"/v1/{name}:undeployModel", {"deployedModelId": deployed["id"]})
    assert registry.get(deployed["id"]) is None
    assert bench.get(name)["deployedModels"] == []
    bench.client.delete(f"/v1/{name}")
    assert bench.get(f"{bench.place}/endpoints") == {"endpoints": []}


def stop_by_itself(bench: Bench, endpoint: str, _process: ProcessIdentity) -> None:
    bench.client.post(f"/v1/{endpoint}:rawPredict", json={"stop_by_itself": True})


def kill(_bench: Bench, _endpoint: str, process: ProcessIdentity) -> None:
    os.kill(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("end", [stop_by_itself, kill])
def test_a_server_that_has_ended_is_started_by_the_next_request(bench: Bench, model: str, end: Callable[..., None]) -> None:
    endpoint = bench.new_endpoint()
    process = process_of(endpoint, deployed := bench.deploy(endpoint, model))
    end(bench, endpoint, process)
    assert process.has_ended_within(10)
    [shown] = bench.get(endpoint)["deployedModels"]
    assert shown["status"]["message"].startswith("Stopped: i")
    assert shown["status"]["availableReplicaCount"] == 0
    assert predicted(bench, endpoint) == "served"
    assert process_of(endpoint, deployed) != process


def test_a_request_does_not_bring_back_what_was_undeployed_meanwhile(bench: Bench, model: str) -> None:
    endpoint = bench.new_endpoint()
    deployed = bench.deploy(endpoint, model)
    server = registry.get(endpoint_deployments.server_id(endpoint, deployed))
    assert server is not None
    registry.undeploy(server)
    assert error(bench.client.post(f"/v1/{endpoint}:predict", json={"instances": []}))[1] == "NOT_FOUND"
    assert bench.get(endpoint)["deployedModels"] == []


def test_a_model_that_does_not_load_leaves_nothing_behind(bench: Bench, tmp_path: Path) -> None:
    model = bench.upload(model_folder(tmp_path / "model"))
    (models.get(model).artifact_folder / "broken").touch()
    endpoint = bench.new_endpoint()
    operation = bench.ended(bench.client.post(f"/v1/{endpoint}:deployModel", json={"deployedModel": {"model": model, "id": "5"}}).json())
    assert "the model cannot be read" in operation["error"]["message"]
    assert (operation["error"]["code"], "response" in operation) == (14, False)
    assert bench.get(endpoint)["deployedModels"] == []
    assert registry.get(endpoint_deployments.server_id(endpoint, "5")) is None
    assert bench.client.delete(f"/v1/{endpoint}").status_code == 200


def test_lists_of_endpoints_are_filtered(bench: Bench) -> None:
    names = {name: bench.new_endpoint(name, labels={"kind": name[0]}) for name in ("a1", "a2", "b1")}

    def found(text: str) -> list[str]:
        return [endpoint["displayName"] for endpoint in bench.get(f"{bench.place}/endpoints", filter=text, orderBy="display_name")["endpoints"]]

    assert found('display_name="a1"') == ["a1"]
    assert found("labels.kind=a") == ["a1", "a2"]
    assert found(f"endpoint={names['b1'].rpartition('/')[2]}") == ["b1"]
    assert found("") == ["a1", "a2", "b1"]


def test_an_endpoint_is_changed_and_its_id_may_be_chosen(bench: Bench) -> None:
    body = {"displayName": "e", "dedicatedEndpointEnabled": True, "network": "projects/1/global/networks/n", "encryptionSpec": {"kmsKeyName": "k"}}
    operation = bench.client.post(bench.endpoints, params={"endpointId": "mine"}, json=body).json()
    assert operation["response"]["name"] == f"{bench.place}/endpoints/mine"
    endpoint = bench.get(f"{bench.place}/endpoints/mine")
    assert endpoint["encryptionSpec"] == {"kmsKeyName": "k"}
    assert not {"dedicatedEndpointEnabled", "network"} & endpoint.keys()  # the SDK would send predictions there
    assert error(bench.client.post(bench.endpoints, params={"endpointId": "mine"}, json=body))[:2] == (409, "ALREADY_EXISTS")
    changed = bench.client.patch(f"{bench.endpoints}/mine", json={**endpoint, "displayName": "f", "description": "d"}).json()
    assert (changed["displayName"], changed["description"]) == ("f", "d")


@pytest.mark.parametrize(
    ("path", "body", "told"),
    [
        ("", {}, "displayName is missing."),
        ("", {"displayName": "e", "deployedModels": [{}]}, "Deploy models with :deployModel."),
        *((f"?endpointId={name}", {"displayName": "e"}, f"endpointId: found {name!r}") for name in ("Mine", "mine-", "1234567890", "012", "1a")),
        ("/E:deployModel", {"deployedModel": {}}, "deployedModel.model is missing."),
        ("/E:deployModel", {"deployedModel": {"model": "MODEL", "id": "x"}}, "deployedModel.id: found 'x'"),
        ("/E:deployModel", {"deployedModel": {"model": "MODEL"}, "trafficSplit": {"0": 101}}, "trafficSplit.0: found 101" ),
        ("/E:deployModel", {"deployedModel": {"model": "MODEL"}, "trafficSplit": {"1": 100}}, "'1' is no deployed model"),
        ("/E:deployModel", {"deployedModel": {"model": "MODEL", "dedicatedResources": {"machineSpec": {"acceleratorType": 99}}}}, "acceleratorType: expected"),
        ("/E:undeployModel", {"deployedModelId": "9"}, "no model is deployed"),
        ("/E:undeployModel", {}, "deployedModelId is missing."),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused(bench: Bench, model: str, path: str, body: dict[str, Any], told: str) -> None:
    endpoint = bench.new_endpoint().rpartition("/")[2]
    body = json.loads(json.dumps(body).replace("MODEL", model))
    code, status, message = error(bench.client.post(f"{bench.endpoints}{path.replace('/E', f'/{endpoint}')}", json=body))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert told in message


def test_what_does_not_exist_is_not_found(bench: Bench, model: str) -> None:
    endpoint = bench.new_endpoint()
    for name in (endpoint, f"{bench.place}/endpoints/1"):
        body = {"deployedModel": {"model": model if name != endpoint else f"{bench.place}/models/1"}}
        assert error(bench.client.post(f"/v1/{name}:deployModel", json=body))[:2] == (404, "NOT_FOUND")
    for verb in ("predict", "rawPredict", "streamRawPredict"):
        assert error(bench.client.post(f"/v1/{bench.place}/endpoints/1:{verb}", json={}))[:2] == (404, "NOT_FOUND")
    assert error(bench.client.post(f"/v1/{endpoint}:deployModel", json={"deployedModel": {"model": bench.upload()}}))[:2] == (400, "FAILED_PRECONDITION")


def test_servers_live_on_when_the_service_ends_and_those_of_no_endpoint_are_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start_fake_servers(monkeypatch)
    with opened(tmp_path / "home", is_last=False) as shared:
        bench = of_its_own(shared)
        model, endpoint = bench.upload(model_folder(tmp_path / "model"), "served"), bench.new_endpoint()
        process = process_of(endpoint, deployed := bench.deploy(endpoint, model))
        before = bench.get(endpoint)
        # The service ends before this one is healthy: its note and its process are left.
        work = endpoint_deployments.deploy(bench.service, endpoint, DeployModelRequest(deployed_model=DeployedModel(model=model, id="77")))
        start = registry.start
        with monkeypatch.context() as patch:
            patch.setattr(registry, "start", lambda record, **_: (start(record), threading.Event().wait()))
            threading.Thread(target=work, daemon=True).start()
            loose = wait_for_server(endpoint, "77")
    with opened(tmp_path / "home") as second:
        again = replace(second, place=bench.place)
        assert loose.has_ended_within(10)
        assert again.get(endpoint) == before
        assert predicted(again, endpoint) == "served"
        assert process_of(endpoint, deployed) == process


@pytest.mark.parametrize(
    ("split", "gone", "left"),
    [({"1": 100}, ["1"], {}), ({"1": 50, "2": 50}, ["1"], {"2": 100}), ({"1": 40, "2": 10, "3": 50}, ["3"], {"1": 80, "2": 20}), ({"1": 100}, [], {"1": 100}),
     ({"1": 98, "2": 1, "3": 1}, ["1"], {"2": 50, "3": 50}), ({"1": 1, "2": 33, "3": 33, "4": 33}, ["1"], {"2": 34, "3": 33, "4": 33})],
)  # fmt: skip
def test_what_is_left_of_the_traffic_is_shared_in_proportion(split: dict[str, int], gone: list[str], left: dict[str, int]) -> None:
    assert traffic.without(split, gone) == left


def test_a_draw_meets_each_model_by_its_share() -> None:
    split = {"1": 20, "2": 80}
    drawn = [traffic.chosen(split, number / 100) for number in range(100)]
    assert (drawn.count("1"), drawn.count("2")) == (20, 80)
    assert traffic.chosen({"1": 33, "2": 67}, 0.999999) == "2"


def test_the_first_model_gets_all_traffic_and_the_second_what_is_asked() -> None:
    assert traffic.with_new({}, {}, "9", []) == {"9": 100}
    assert traffic.with_new({"1": 100}, {}, "9", ["1"]) == {"1": 100}
    assert traffic.with_new({"1": 100}, {"0": 30, "1": 70}, "9", ["1"]) == {"9": 30, "1": 70}
    with pytest.raises(Fault, match="make 30"):
        traffic.with_new({"1": 100}, {"0": 30}, "9", ["1"])
