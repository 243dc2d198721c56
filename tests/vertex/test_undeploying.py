"""A model's time on its endpoint: the schedule that ends it, request by request, and what its job does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.vertex.bench import A_ENDPOINT, BASE_IMAGE, Deploying
from tests.vertex.fake_cloud import Refusal, cloud_of
from tuneline.cron import Cron
from tuneline.errors import CapacityError, UserError
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
    assert "docs/images.md" in caught.value.next_action
    assert world.api.asked(":deployModel") == []


def test_whoever_may_not_look_for_schedules_deploys_nothing(world: Deploying) -> None:
    world.api.refuse = lambda what: Refusal(403, "no permission", "PERMISSION_DENIED") if what.startswith("GET") and "/schedules" in what else None
    with pytest.raises(UserError, match=r"undeploy_after_hours: .*no permission"):
        world.deploy(undeploy_after_hours=3)
    assert world.api.asked(":deployModel") == []


def dues(world: Deploying) -> list[str]:
    """The times of the schedules that were made."""
    return [str(made["displayName"]).rpartition(" at ")[2] for made in world.api.asked("/schedules")]


def set_time(world: Deploying, due: str) -> tuple[str, str]:
    """Give the model's label another time; its endpoint and id."""
    [(name, endpoint)] = world.api.endpoints.items()
    [key] = endpoint["labels"]
    endpoint["labels"] = {key: due}
    return name, key.removeprefix(PREFIX)


def test_a_time_that_was_over_before_the_model_came_is_given_anew(world: Deploying) -> None:
    """There was no machine; the timer fired and found nothing to take off; the task is tried again."""
    world.api.refuse = lambda what: Refusal(429, "no L4 left") if ":deployModel" in what else None
    with pytest.raises(CapacityError):
        world.deploy(undeploy_after_hours=3)
    name, own = set_time(world, "20200101t000000z")
    assert not undeploy_when_due(vertex_of(world), name, own, datetime.now(UTC))
    assert world.api.endpoints[name]["labels"], "the model may still come"
    world.api.refuse = lambda what: None
    record = world.deploy(undeploy_after_hours=5)
    due = expires_at(record["labels"], own)
    assert due is not None
    assert due > datetime.now(UTC) + timedelta(hours=4)
    assert dues(world)[-1] == f"{due:%Y-%m-%dT%H:%M:%SZ}"
    assert len(set(dues(world))) == 2


def test_a_deployment_that_took_longer_than_its_time_gets_another(world: Deploying) -> None:
    def late(when: str, what: str) -> None:
        if when == "before" and ":deployModel" in what:
            set_time(world, "20200101t000000z")

    world.api.interrupt = late
    record = world.deploy(undeploy_after_hours=3)
    due = expires_at(record["labels"], record["deployedModelId"])
    assert due is not None
    assert due > datetime.now(UTC)
    assert dues(world)[-1] == f"{due:%Y-%m-%dT%H:%M:%SZ}"


def test_whoever_takes_the_label_away_keeps_the_model(world: Deploying) -> None:
    record = world.deploy(undeploy_after_hours=3)
    world.api.endpoints[record["name"]]["labels"] = {"team": "a"}
    assert world.deploy(undeploy_after_hours=3)["labels"] == {"team": "a"}
    assert len(world.api.asked("/schedules")) == 1


def test_labels_of_models_that_left_by_other_ways_go(world: Deploying) -> None:
    world.has_endpoint(id1=100)
    labels = {"team": "a", f"{PREFIX}1": "20200101t000000z", f"{PREFIX}2": "20200101t000000z", f"{PREFIX}3": "20991231t000000z"}
    world.api.endpoints[A_ENDPOINT]["labels"] = labels
    record = world.deploy(target_endpoint=A_ENDPOINT, undeploy_after_hours=3)
    assert set(record["labels"]) == {"team", f"{PREFIX}1", f"{PREFIX}3", PREFIX + record["deployedModelId"]}


@pytest.mark.parametrize("status", ["FAILED_PRECONDITION", "ABORTED", "UNAVAILABLE"])
def test_the_only_shot_is_not_lost_to_what_passes(world: Deploying, status: str) -> None:
    record = world.deploy(undeploy_after_hours=3)
    name, own = set_time(world, "20200101t000000z")
    refusals = [Refusal(503 if status == "UNAVAILABLE" else 400, "another operation is running", status) for _ in range(30)]
    world.api.refuse = lambda what: refusals.pop() if ":undeployModel" in what and refusals else None
    assert undeploy_when_due(vertex_of(world), name, own, datetime.now(UTC))
    assert world.api.endpoints[record["name"]]["deployedModels"] == []
    assert world.time.moment < 1800


def test_what_does_not_pass_is_told(world: Deploying) -> None:
    world.deploy(undeploy_after_hours=3)
    name, own = set_time(world, "20200101t000000z")
    world.api.refuse = lambda what: Refusal(400, "not now", "FAILED_PRECONDITION") if ":undeployModel" in what else None
    with pytest.raises(UserError, match="not now"):
        undeploy_when_due(vertex_of(world), name, own, datetime.now(UTC))
    assert 1800 <= world.time.moment < 1900
    world.api.refuse = lambda what: Refusal(403, "never", "PERMISSION_DENIED") if ":undeployModel" in what else None
    with pytest.raises(UserError, match="never"):
        undeploy_when_due(vertex_of(world), name, own, datetime.now(UTC))
    assert world.time.moment < 1900


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
