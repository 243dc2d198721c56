"""Deploying on Vertex AI, request by request."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.vertex.bench import A_ENDPOINT, KEY, LOCATION, Deploying
from tests.vertex.fake_cloud import Refusal, cloud_of
from tuneline.errors import CapacityError, NotFoundError, UserError
from tuneline.resolution import Machine
from tuneline.vertex.endpoints import label, undeploy
from tuneline.vertex.expiry import expires_at

CPU = Machine(region="us-central1", machine_type="e2-standard-16", accelerator_type="", accelerator_count=0)


@pytest.fixture
def world() -> Deploying:
    return Deploying()


def test_a_model_gets_an_endpoint_of_its_own_and_all_traffic(world: Deploying) -> None:
    record = world.deploy(labels={"team": "code"})
    [(created, endpoint), (deployed, request)] = world.api.requests
    assert created == f"POST {LOCATION}/endpoints"
    assert endpoint == {"displayName": "our model", "dedicatedEndpointEnabled": True, "labels": {"team": "code"}}
    assert deployed == f"POST {record['name']}:deployModel"
    own_id = request["deployedModel"]["id"]
    assert own_id.isdigit()
    assert len(own_id) == 10
    assert request == {
        "deployedModel": {
            "id": own_id, "model": world.model, "displayName": "our model", "serviceAccount": "server@acme.iam.gserviceaccount.com",
            "dedicatedResources": {
                "machineSpec": {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1},
                "minReplicaCount": 1, "maxReplicaCount": 1,
            },
        },
        "trafficSplit": {"0": 100},
    }  # fmt: skip
    assert (record["deployedModelId"], record["trafficSplit"], record["dedicatedEndpointDns"]) == (own_id, {own_id: 100}, "e.example.com")


def test_spot_replicas_and_a_machine_without_accelerators(world: Deploying) -> None:
    world.deploy(machine=CPU, serving_spot=True, min_replica_count=2, max_replica_count=5, dedicated_endpoint_enabled=False, encryption_spec_key_name=KEY)
    [(_, endpoint), (_, request)] = world.api.requests
    assert request["deployedModel"]["dedicatedResources"] == {
        "machineSpec": {"machineType": "e2-standard-16"}, "minReplicaCount": 2, "maxReplicaCount": 5, "spot": True,
    }  # fmt: skip
    assert endpoint["encryptionSpec"] == {"kmsKeyName": KEY}
    assert endpoint["dedicatedEndpointEnabled"] is False


def test_what_is_deployed_already_is_left_alone(world: Deploying) -> None:
    first = world.deploy()
    assert world.deploy() == first
    assert len(world.api.asked(":deployModel")) == 1


def test_a_model_that_somebody_else_has_deployed_there_is_reused(world: Deploying) -> None:
    """The API names models with the project's number."""
    world.has_endpoint(id77=100)
    model, _, version = world.model.replace("acme", "123456789").partition("@")
    world.api.endpoints[A_ENDPOINT]["deployedModels"][0] |= {"model": model, "modelVersionId": version}
    assert world.deploy(target_endpoint=A_ENDPOINT)["deployedModelId"] == "77"
    assert world.api.asked(":deployModel") == []


def test_the_next_version_joins_the_first_on_the_same_endpoint(world: Deploying) -> None:
    first = world.deploy()
    second = world.deploy(world.job(2).resource_name, traffic_percentage=10)
    assert second["name"] == first["name"]
    assert second["trafficSplit"] == {first["deployedModelId"]: 90, second["deployedModelId"]: 10}


def test_on_a_shared_endpoint_the_others_keep_their_proportions(world: Deploying) -> None:
    record = world.deploy(target_endpoint=world.has_endpoint(id1=75, id2=25), traffic_percentage=20)
    assert record["trafficSplit"] == {"1": 60, "2": 20, record["deployedModelId"]: 20}
    assert len(world.api.requests) == 1


def test_a_target_endpoint_has_to_be_there(world: Deploying) -> None:
    with pytest.raises(NotFoundError, match="target_endpoint: there is no"):
        world.deploy(target_endpoint=A_ENDPOINT)
    assert world.api.requests == []


@pytest.mark.parametrize("at_once", [True, False])
def test_without_machines_the_error_is_one_of_capacity(world: Deploying, at_once: bool) -> None:
    if at_once:
        world.api.refuse = lambda what: Refusal(429, "no L4 left") if ":deployModel" in what else None
    else:
        world.api.interrupt = lambda when, what: world.api.fail_operations({"code": 8, "message": "no L4 left"}) if "deployModel" in what else None
    with pytest.raises(CapacityError, match="no L4 left") as caught:
        world.deploy()
    assert "serving_machine_type" in caught.value.next_action
    world.api.refuse = lambda what: None
    world.api.interrupt = lambda when, what: None
    assert world.deploy()["trafficSplit"]


def test_the_time_to_undeploy_is_noted_before_the_deployment(world: Deploying) -> None:
    record = world.deploy(undeploy_after_hours=3)
    assert [what.partition(" ")[0] for what, _ in world.api.requests] == ["POST", "PATCH", "POST", "POST"]
    assert [what.rpartition("/")[2] for what, _ in world.api.requests][-2] == "schedules"
    expires = expires_at(record["labels"], record["deployedModelId"])
    assert expires is not None
    assert timedelta(hours=2.9) < expires - datetime.now(UTC) < timedelta(hours=3)
    assert expires_at({"tuneline-undeploy-1": "soon"}, "1") is None


def test_labels_that_are_changed_meanwhile_are_not_lost(world: Deploying) -> None:
    world.has_endpoint()

    def meanwhile(when: str, what: str) -> None:
        if when == "before" and what.startswith("PATCH"):
            world.api.interrupt = lambda when, what: None
            found = world.api.endpoints[A_ENDPOINT]
            world.api.endpoints[A_ENDPOINT] = {**found, "labels": {"team": "code"}, "etag": "2"}

    world.api.interrupt = meanwhile
    label(cloud_of(world.api, world.objects, world.time.clock).vertex("us-central1"), A_ENDPOINT, lambda labels: {**labels, "own": "1"})
    assert world.api.endpoints[A_ENDPOINT]["labels"] == {"team": "code", "own": "1"}


def test_undeploying_leaves_the_others_all_traffic_and_is_nothing_the_second_time(world: Deploying) -> None:
    vertex = cloud_of(world.api, world.objects, world.time.clock).vertex("us-central1")
    world.has_endpoint(id1=80, id2=20)
    assert undeploy(vertex, A_ENDPOINT, "1")
    assert world.api.endpoints[A_ENDPOINT]["trafficSplit"] == {"2": 100}
    assert not undeploy(vertex, A_ENDPOINT, "1")
    assert undeploy(vertex, A_ENDPOINT, "2")
    assert len(world.api.asked(":undeployModel")) == 2


def test_a_refused_endpoint_is_the_users(world: Deploying) -> None:
    world.api.refuse = lambda what: Refusal(403, "no permission") if what.startswith("POST") else None
    with pytest.raises(UserError, match="no permission"):
        world.deploy()


def test_every_request_is_a_message_of_the_published_api(world: Deploying) -> None:
    types = pytest.importorskip("google.cloud.aiplatform_v1.types")
    from google.protobuf import json_format

    record = world.deploy(undeploy_after_hours=1, serving_spot=True, encryption_spec_key_name=KEY)
    undeploy(cloud_of(world.api, world.objects, world.time.clock).vertex("us-central1"), record["name"], record["deployedModelId"])
    kinds = {
        "/schedules": types.Schedule,
        "/endpoints": types.Endpoint,
        ":deployModel": types.DeployModelRequest,
        ":undeployModel": types.UndeployModelRequest,
        "PATCH": types.Endpoint,
    }
    seen = set()
    for what, body in world.api.requests:
        kind = "PATCH" if what.startswith("PATCH") else next(kind for kind in kinds if what.endswith(kind))
        json_format.ParseDict(body, kinds[kind].pb(kinds[kind]()))
        seen.add(kind)
    assert seen == set(kinds)
