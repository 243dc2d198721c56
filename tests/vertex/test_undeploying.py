"""A model's time on its endpoint: the schedule that ends it, request by request, and what its job does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.vertex.bench import BASE_IMAGE, Deploying
from tests.vertex.fake_cloud import Refusal, cloud_of
from tuneline.cron import Cron
from tuneline.errors import UserError
from tuneline.templates import images
from tuneline.vertex.expiry import PREFIX, expires_at
from tuneline.vertex.rest import Vertex
from tuneline.vertex.undeploying import Timer, undeploy_when_due

ENDPOINT = "projects/acme/locations/europe-west4/endpoints/7"
NOW = datetime(2026, 11, 29, 12, 0, 30, tzinfo=UTC)


@pytest.fixture
def world() -> Deploying:
    return Deploying()


def vertex_of(world: Deploying) -> Vertex:
    return cloud_of(world.api, world.objects, world.time.clock).vertex("us-central1")


def schedule(hours: float, now: datetime = NOW) -> dict[str, Any]:
    timer = Timer(endpoint=ENDPOINT, deployed_model_id="42", due=now + timedelta(hours=hours))
    return timer.to_json("us-central1", root="gs://b/.tuneline/undeploy", image=BASE_IMAGE, service_account="me@p.iam.gserviceaccount.com", now=now)


def test_the_schedule_fires_once_and_not_before_the_time_is_over() -> None:
    made = schedule(2)
    assert (made["cron"], made["maxRunCount"], made["displayName"]) == ("TZ=UTC 1 14 29 11 *", "1", "undeploy 42 at 2026-11-29T14:00:30Z")
    assert "startTime" not in made
    request = made["createPipelineJobRequest"]
    assert request["parent"] == "projects/acme/locations/us-central1"
    job = request["pipelineJob"]
    assert job["runtimeConfig"] == {
        "gcsOutputDirectory": "gs://b/.tuneline/undeploy",
        "parameterValues": {"endpoint_resource_name": ENDPOINT, "deployed_model_id": "42"},
    }
    assert job["serviceAccount"] == "me@p.iam.gserviceaccount.com"
    assert images(job["pipelineSpec"]) == (BASE_IMAGE,)
    [task] = job["pipelineSpec"]["root"]["dag"]["tasks"].values()
    assert task["cachingOptions"] == {"enableCache": False}


@pytest.mark.parametrize("hours", [1, 24, 25, 24 * 40, 24 * 364, 24 * 400])
def test_the_first_time_that_cron_means_is_the_right_one(hours: int) -> None:
    made = schedule(hours)
    begin = datetime.fromisoformat(made["startTime"]) if "startTime" in made else NOW
    due = NOW + timedelta(hours=hours)
    fires = Cron.parse(made["cron"]).after(begin)
    assert timedelta() <= fires - due < timedelta(minutes=1)


def test_a_deployment_with_a_time_has_one_schedule_however_often_it_is_tried(world: Deploying) -> None:
    first = world.deploy(undeploy_after_hours=3)
    assert world.deploy(undeploy_after_hours=3) == first
    [made] = world.api.asked("/schedules")
    due = expires_at(first["labels"], first["deployedModelId"])
    assert due is not None
    assert made["displayName"] == f"undeploy {first['deployedModelId']} at {due:%Y-%m-%dT%H:%M:%SZ}"
    assert world.deploy()["labels"] == first["labels"]
    assert images(made["createPipelineJobRequest"]["pipelineJob"]["pipelineSpec"]) == (BASE_IMAGE,)


def test_without_a_time_there_is_no_schedule(world: Deploying) -> None:
    world.deploy()
    assert world.api.asked("/schedules") == []


def test_whoever_may_make_no_schedule_deploys_nothing(world: Deploying) -> None:
    world.api.refuse = lambda what: Refusal(403, "no permission", "PERMISSION_DENIED") if what.startswith("POST") and "/schedules" in what else None
    with pytest.raises(UserError, match=r"undeploy_after_hours: .*no permission") as caught:
        world.deploy(undeploy_after_hours=3)
    assert "aiplatform.schedules.create" in caught.value.next_action
    assert world.api.asked(":deployModel") == []


def test_an_earlier_schedule_that_shows_late_is_not_made_again(world: Deploying) -> None:
    def lose(when: str, what: str) -> None:
        if when == "after" and what.startswith("POST") and "/schedules" in what:
            world.api.interrupt = lambda when, what: None
            raise ConnectionError("no answer")

    world.api.interrupt = lose
    with pytest.raises(ConnectionError):
        world.deploy(undeploy_after_hours=3)
    world.deploy(undeploy_after_hours=3)
    assert len(world.api.asked("/schedules")) == 1


def test_a_model_is_taken_off_when_its_time_is_over_and_not_before(world: Deploying) -> None:
    record = world.deploy(undeploy_after_hours=3)
    name, own = record["name"], record["deployedModelId"]
    due = expires_at(record["labels"], own)
    assert due is not None
    assert not undeploy_when_due(vertex_of(world), name, own, due - timedelta(seconds=1))
    assert undeploy_when_due(vertex_of(world), name, own, due)
    assert world.api.endpoints[name]["deployedModels"] == []
    assert world.api.endpoints[name]["labels"] == {}
    assert not undeploy_when_due(vertex_of(world), name, own, due)


def test_a_model_that_got_more_time_or_no_end_stays(world: Deploying) -> None:
    record = world.deploy(undeploy_after_hours=3)
    name, own = record["name"], record["deployedModelId"]
    due = expires_at(record["labels"], own)
    assert due is not None
    for labels in ({PREFIX + own: "20991231t000000z"}, {PREFIX + own: "never"}, {}):
        world.api.endpoints[name]["labels"] = labels
        assert not undeploy_when_due(vertex_of(world), name, own, due)
        assert len(world.api.endpoints[name]["deployedModels"]) == 1
    world.api.endpoints.clear()
    assert not undeploy_when_due(vertex_of(world), name, own, due)
