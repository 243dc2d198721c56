"""Launches as custom jobs: created exactly once, found again, cancelled."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.launching.fake_vertex import FakeVertex, MemoryClaims
from tests.launching.orders import ONE_PLACE, ORDER
from tests.vertex.stub_api import FakeTime
from tuneline.errors import CapacityError, InfrastructureError, UserError
from tuneline.launching.on_vertex import CustomJobs, project_of
from tuneline.launching.order import Order, Try
from tuneline.launching.running import Launcher
from tuneline.vertex.rest import Json, OutcomeUnknown, Refused

FIRST = "projects/p/locations/us-central1/customJobs/1"


class Bench:
    """Vertex, the claims, and launchers of one task, which come and go."""

    def __init__(self, folder: Path) -> None:
        self.vertex, self.claims, self.time, self.folder = FakeVertex(), MemoryClaims(), FakeTime(), folder
        self.regions: list[str] = []

    def platform(self) -> CustomJobs:
        def region(name: str) -> FakeVertex:
            self.regions.append(name)
            return self.vertex

        return CustomJobs(project="p", store=self.claims, region=region, clock=self.time.clock)  # type: ignore[arg-type]

    def launcher(self, order: Order = ONE_PLACE) -> Launcher:
        return Launcher(order=order, platform=self.platform(), resources=self.folder / "gcp_resources", clock=self.time.clock)

    def succeed(self, job: Json) -> None:
        job["state"] = "JOB_STATE_SUCCEEDED"


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    return Bench(tmp_path)


def test_the_job_is_the_same_step_with_the_same_flags(bench: Bench) -> None:
    bench.vertex.at_look = bench.succeed
    bench.launcher().run()
    [job] = bench.vertex.jobs.values()
    launch = f"{ONE_PLACE.key}-1-0"
    assert job["labels"] == {"team": "a", "tuneline_launch": launch}
    assert len(launch) <= 63
    assert job["displayName"] == f"tuneline tune-model {launch}"
    first, others = job["jobSpec"]["workerPoolSpecs"]
    assert (first["replicaCount"], others["replicaCount"]) == ("1", "1")
    assert first["containerSpec"] == {
        "imageUri": "image:1", "command": ["python", "-m", "tuneline.steps.staged"], "args": list(ONE_PLACE.arguments),
        "env": [{"name": "TUNELINE_JOB_FOLDER", "value": ONE_PLACE.folder(Try())}, {"name": "TUNELINE_PROCESSES", "value": "8"}],
    }  # fmt: skip
    resources = json.loads((bench.folder / "gcp_resources").read_text())
    assert resources["resources"] == [{"resourceType": "CustomJob", "resourceUri": f"{bench.vertex.address}/v1/{FIRST}"}]


def test_each_place_is_asked_in_its_own_region(bench: Bench) -> None:
    def full(job: Json) -> None:
        if "us-central1" in job["name"]:
            raise CapacityError("quota")

    def look(job: Json) -> None:
        job["state"] = "JOB_STATE_FAILED" if "us-east4" in job["name"] else "JOB_STATE_SUCCEEDED"
        job["error"] = {"code": 8, "message": "stockout"}

    bench.vertex.at_creation, bench.vertex.at_look = full, look
    bench.launcher(ORDER).run()
    assert [name.split("/")[3] for name in bench.vertex.jobs] == ["us-east4", "europe-west4"]
    assert set(bench.regions) == {"us-central1", "us-east4", "europe-west4"}


def test_a_killed_launchers_job_is_found_and_not_started_twice(bench: Bench) -> None:
    class Killed(Exception):
        pass

    def kill(_job: Json) -> None:
        raise Killed

    bench.vertex.at_look = kill
    with pytest.raises(Killed):
        bench.launcher().run()
    bench.vertex.at_look = bench.succeed
    bench.launcher().run()
    assert list(bench.vertex.jobs) == [FIRST]


@pytest.mark.parametrize("was_made", [True, False])
def test_a_lost_answer_is_settled_by_the_label(was_made: bool, bench: Bench) -> None:
    answers = ["lost"]

    def lose(job: Json) -> None:
        if answers:
            answers.pop()
            if was_made:
                bench.vertex.jobs[job["name"]] = job
            raise OutcomeUnknown("no answer")

    bench.vertex.at_creation, bench.vertex.at_look = lose, bench.succeed
    bench.launcher().run()
    assert list(bench.vertex.jobs) == [FIRST]


def test_a_launcher_that_was_killed_between_claim_and_answer_is_followed_by_one_that_looks_first(bench: Bench) -> None:
    class Killed(BaseException):
        pass

    def kill(job: Json) -> None:
        bench.vertex.jobs[job["name"]] = job
        bench.claims.write = lambda *_, **__: None  # type: ignore[method-assign]  # dead processes write nothing
        raise Killed

    bench.vertex.at_creation = kill
    with pytest.raises(Killed):
        bench.launcher().run()
    del bench.claims.write  # type: ignore[method-assign]
    bench.vertex.at_creation, bench.vertex.at_look = lambda _job: None, bench.succeed
    bench.launcher().run()
    assert list(bench.vertex.jobs) == [FIRST]


def test_a_refusal_is_the_users_and_leaves_the_claim_free(bench: Bench) -> None:
    def refuse(_job: Json) -> None:
        raise Refused("no such network", status="INVALID_ARGUMENT")

    bench.vertex.at_creation = refuse
    with pytest.raises(UserError, match="no such network"):
        bench.launcher().run()
    assert bench.platform().find(ONE_PLACE, Try()) is None
    bench.vertex.at_creation, bench.vertex.at_look = lambda _job: None, bench.succeed
    bench.launcher().run()
    assert list(bench.vertex.jobs) == [FIRST]


def test_too_many_questions_are_no_lack_of_machines(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: object, **__: object) -> None:
        raise CapacityError("429: requests per minute")

    monkeypatch.setattr(bench.vertex, "list", busy)
    with pytest.raises(InfrastructureError) as caught:
        bench.launcher().run()
    assert not isinstance(caught.value, CapacityError)


def test_a_stopped_launcher_cancels_its_job(bench: Bench) -> None:
    def interrupt(_job: Json) -> None:
        if not bench.vertex.cancelled:
            raise KeyboardInterrupt

    bench.vertex.at_look = interrupt
    with pytest.raises(KeyboardInterrupt):
        bench.launcher().run()
    assert bench.vertex.cancelled == [FIRST]
    bench.vertex.at_look = lambda job: bench.succeed(job) if job["name"] != FIRST else None
    bench.launcher().run()
    assert len(bench.vertex.jobs) == 2


def test_a_paused_job_is_waited_for_and_a_deleted_one_is_not(bench: Bench) -> None:
    states = ["JOB_STATE_PAUSED", "JOB_STATE_PENDING", "JOB_STATE_SUCCEEDED"]
    bench.vertex.at_look = lambda job: job.update(state=states.pop(0))
    bench.launcher().run()
    assert states == []
    bench.vertex.jobs.clear()
    assert bench.platform().look(FIRST).state == "stopped"


def test_the_project_is_the_one_that_vertex_tells_its_containers() -> None:
    assert project_of({"CLOUD_ML_PROJECT_ID": "123", "GOOGLE_CLOUD_PROJECT": "p"}) == "123"
    assert project_of({"CLOUD_ML_PROJECT_ID": "", "GOOGLE_CLOUD_PROJECT": "p"}) == "p"
    with pytest.raises(UserError, match="CLOUD_ML_PROJECT_ID and GOOGLE_CLOUD_PROJECT are not set"):
        project_of({})


def test_people_are_sent_to_the_console_of_google_or_to_the_service(bench: Bench) -> None:
    assert [link.partition("?")[0] for link in bench.platform().links(FIRST)] == [
        "job: https://console.cloud.google.com/vertex-ai/locations/us-central1/training/1",
        'log: https://console.cloud.google.com/logs/query;query=resource.type%3D%22ml_job%22%0Aresource.labels.job_id%3D%221%22',
    ]  # fmt: skip
    bench.vertex.address = "http://127.0.0.1:8080"
    assert bench.platform().links(FIRST) == [f"job: http://127.0.0.1:8080/v1/{FIRST}"]


def test_a_launch_without_labels_of_its_run_has_its_own(bench: Bench) -> None:
    bench.vertex.at_look = bench.succeed
    bench.launcher(replace(ONE_PLACE, labels={})).run()
    assert bench.vertex.newest["labels"].keys() == {"tuneline_launch"}
