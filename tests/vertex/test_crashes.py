"""Registering and deploying as a whole, by eight tasks of one pipeline job at a time: processes that die between any two steps, answers that are lost."""

from collections import Counter
from collections.abc import Callable

import requests

from tests.vertex.bench import BASE_IMAGE, HISTORY, IMAGE, L4, REGISTRATION, RESOLVED, TENSORBOARD
from tests.vertex.fake_cloud import NUMBER, FakeObjects, FakeVertex, Refusal, checkpoint, cloud_of
from tests.vertex.simulation import RUNNERS, Schedule, run_all
from tuneline.errors import InfrastructureError
from tuneline.parameters import DeployModel
from tuneline.vertex.artifacts import CLAIMS, open_artifact
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.deploying import deploy_on_vertex
from tuneline.vertex.registering import register_on_vertex

CASES = 60
KINDS = ("models:upload", "evaluations:import", ":deployModel", "PATCH", "/endpoints", ":write", "write claim", "copy", "/schedules")
CRASH_POINTS = [f"{when} {kind}" for kind in KINDS for when in ("before", "after")]
PARAMETERS = DeployModel(
    project="acme", model_display_name="our model", model_output_root_dir="gs://release", tensorboard_resource_id=TENSORBOARD, deploy_model=True,
    undeploy_after_hours=2,
)  # fmt: skip


def kind_of(what: str) -> str:
    """What a request or a use of Cloud Storage is, without its names."""
    if CLAIMS in what:
        return f"{what.partition(' ')[0]} claim"
    return next((kind for kind in KINDS if kind in what and not what.startswith("GET")), "look")


class World:
    """A project in which things go wrong as a seed says."""

    def __init__(self, seed: int) -> None:
        self.schedule = Schedule(seed)
        self.objects, self.api = FakeObjects(), FakeVertex(lambda: self.schedule.now)
        self.uri = checkpoint(self.objects)
        self.api.operation_seconds = 40.0
        self.api.interrupt = self.api_point
        self.api.refuse = self.refusal
        self.objects.interrupt = self.storage_point

    def api_point(self, when: str, what: str) -> None:
        self.schedule.point(f"{when} {kind_of(what)}")
        if when == "after" and "POST" in what and self.schedule.chance(0.1, "answer lost"):
            raise requests.exceptions.ReadTimeout("no answer")

    def storage_point(self, when: str, what: str) -> None:
        self.schedule.point(f"{when} {kind_of(what)}")
        if self.schedule.chance(0.002, "storage failed"):
            raise InfrastructureError("no answer")

    def refusal(self, what: str) -> Refusal | None:
        return Refusal(503, "try again") if self.schedule.chance(0.05, "unavailable") else None

    def cloud(self) -> Cloud:
        return cloud_of(self.api, self.objects, self.schedule.clock)

    def register(self) -> str:
        return register_on_vertex(self.cloud(), self.uri, REGISTRATION, PARAMETERS, RESOLVED, serving_image=IMAGE, history=HISTORY).resource_name

    def deploy(self, model: str) -> str:
        cloud = self.cloud()
        origin = open_artifact(cloud.objects, self.uri)
        record = deploy_on_vertex(cloud, model, origin, PARAMETERS, RESOLVED, machine=L4, labels={}, undeploy_image=BASE_IMAGE)
        return str(record["deployedModelId"])


def simulated(attempt: Callable[[World], str]) -> tuple[list[World], Counter[str]]:
    """All cases after they have ended, each with the same result for all runners; and what happened in them."""
    worlds, events = [], Counter[str]()
    for seed in range(CASES):
        world = World(seed)
        results = run_all(world.schedule, CRASH_POINTS, lambda world=world: attempt(world))  # type: ignore[misc]
        assert len(results) == RUNNERS
        assert len(set(results)) == 1, f"seed {seed}"
        world.objects.interrupt = lambda when, what: None
        worlds.append(world)
        events += world.schedule.events
    assert len(worlds) == CASES
    assert min(events["answer lost"], events["storage failed"], events["unavailable"]) > 5
    return worlds, events


def crashed_at(events: Counter[str]) -> set[str]:
    return {name.removeprefix("crash ") for name in events if name.startswith("crash ")}


def test_a_job_registers_one_version_with_one_evaluation_and_whole_files() -> None:
    worlds, events = simulated(World.register)
    for seed, world in enumerate(worlds):
        [versions] = world.api.versions.values()
        assert len(versions) == 1, f"seed {seed}"
        [evaluations] = world.api.evaluations.values()
        assert len(evaluations) == 1, f"seed {seed}"
        artifact = versions[0]["artifactUri"]
        assert artifact.startswith("gs://release/")
        assert open_artifact(world.objects, artifact).files == open_artifact(world.objects, world.uri).files
        assert len(world.api.points) == 8, f"seed {seed}"
    assert crashed_at(events) >= {f"{when} {kind}" for kind in ("models:upload", "evaluations:import", "write claim", "copy") for when in ("before", "after")}


def test_a_job_deploys_one_model_on_one_endpoint() -> None:
    worlds, events = simulated(lambda world: world.deploy(world.register()))
    for seed, world in enumerate(worlds):
        [endpoint] = world.api.endpoints.values()
        [deployed] = endpoint["deployedModels"]
        assert deployed["model"].startswith(f"projects/{NUMBER}/"), f"seed {seed}"
        assert endpoint["trafficSplit"] == {deployed["id"]: 100}, f"seed {seed}"
        assert list(endpoint["labels"]) == [f"tuneline-undeploy-{deployed['id']}"], f"seed {seed}"
        assert len([name for name in world.api.others if "/schedules/" in name]) == 1, f"seed {seed}"
    assert crashed_at(events) >= {f"{when} {kind}" for kind in ("/endpoints", "/schedules", ":deployModel", "PATCH") for when in ("before", "after")}
