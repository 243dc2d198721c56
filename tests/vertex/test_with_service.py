"""Registering and deploying through `tuneline serve`: its REST API, its Cloud Storage, and a connection that loses answers. Servers are stand-ins."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.api.endpoint_bench import Bench, listening, of_its_own, opened, start_fake_servers
from tests.registry.made_up import CONTENT, write_checkpoint
from tests.vertex.bench import BASE_IMAGE, HISTORY, IMAGE, L4, REGISTRATION, RESOLVED
from tuneline.api.app import create_app
from tuneline.cli import main
from tuneline.parameters import DeployModel
from tuneline.registry.models import Registered
from tuneline.vertex.artifacts import open_artifact
from tuneline.vertex.backoff import Backoff, Clock
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.deploying import deploy_on_vertex
from tuneline.vertex.registering import register_on_vertex
from tuneline.vertex.rest import ENDPOINT, Json

BUCKET = "pipeline-root"
CHECKPOINT = f"gs://{BUCKET}/run/checkpoints/checkpoint-20"


class Hurried:
    """A clock that runs ahead of the service's: a second of waiting takes ten milliseconds."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        time.sleep(seconds / 100)


class Lossy(requests.Session):
    """Loses the answer to the first request in whose address the words are."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.trust_env = False
        self.words = words
        self.sent: list[str] = []

    def request(self, method: str, url: str, *args: Any, **options: Any) -> Any:  # type: ignore[override]
        self.sent.append(f"{method} {url}")
        answer = super().request(method, url, *args, **options)
        if self.words and self.words in url and method == "POST":
            self.words = ""
            raise requests.exceptions.ReadTimeout("no answer")
        return answer


class Project:
    """A project of the service, with a checkpoint in its bucket."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.project = bench.place.split("/")[1]

    def cloud(self, lost: str = "") -> Cloud:
        clock = Hurried()
        return Cloud(session=Lossy(lost), clock=Clock(now=lambda: clock.now, sleep=clock.sleep), backoff=Backoff(attempts=3, first_seconds=0.0))

    def parameters(self, **changes: Any) -> DeployModel:
        return DeployModel(**{"project": self.project, "model_display_name": "our model", "deploy_model": True, **changes})

    def register(self, job: str = "job-1", *, lost: str = "", metric: str = "loss", **changes: Any) -> Registered:
        registration = replace(REGISTRATION, project=self.project, pipeline_job_name=job, metrics={metric: 0.5})
        parameters = self.parameters(**changes)
        return register_on_vertex(self.cloud(lost), CHECKPOINT, registration, parameters, RESOLVED, serving_image=IMAGE, history=HISTORY)

    def deploy(self, model: str, *, lost: str = "", **changes: Any) -> Json:
        cloud = self.cloud(lost)
        origin = open_artifact(cloud.objects, CHECKPOINT)
        return deploy_on_vertex(cloud, model, origin, self.parameters(**changes), RESOLVED, machine=L4, labels={"team": "code"}, undeploy_image=BASE_IMAGE)

    def versions(self) -> list[Json]:
        models = self.bench.client.get(self.bench.models).json().get("models", [])
        return [version for model in models for version in self.bench.get(f"{model['name']}:listVersions")["models"]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as bench, listening(create_app(bench.service)) as url:
        start_fake_servers(patch)
        patch.setenv(ENDPOINT, url)
        patch.setenv("STORAGE_EMULATOR_HOST", url)
        write_checkpoint(bench.service.settings.buckets / BUCKET / "run/checkpoints/checkpoint-20")
        yield bench


@pytest.fixture
def project(shared: Bench) -> Project:
    return Project(of_its_own(shared))


def has(bench: Bench, words: str) -> bool:
    """Whether the service has a method in whose path the words are."""
    return any(words in path for path in bench.client.get("/openapi.json").json()["paths"])


def test_a_checkpoint_in_the_bucket_becomes_a_model_that_can_be_served(project: Project, shared: Bench) -> None:
    registered = project.register(version_aliases="best")
    [version] = project.versions()
    assert registered.resource_name == version["name"]
    assert version["artifactUri"] == CHECKPOINT
    assert {"default", "best"} < set(version["versionAliases"])
    assert (version["labels"]["tune-type"], version["containerSpec"]["imageUri"]) == ("sft", IMAGE)
    record = project.deploy(registered.resource_name, undeploy_after_hours=1)
    answer = shared.client.post(f"/v1/{record['name']}:predict", json={"instances": [{"content": "x"}]})
    assert answer.json()["predictions"] == [{"content": "our model: {'content': 'x'}"}]
    assert record["labels"].keys() == {"team", f"tuneline-undeploy-{record['deployedModelId']}"}


def test_tried_again_nothing_is_made_a_second_time(project: Project) -> None:
    first = project.register()
    assert project.register() == first
    assert project.register("job-2").resource_name == first.resource_name.replace("@1", "@2")
    assert project.deploy(first.resource_name) == project.deploy(first.resource_name)
    assert [version["versionId"] for version in project.versions()] == ["2", "1"]


@pytest.mark.parametrize("job", ["job-1", "job-2"])
def test_an_upload_whose_answer_is_lost_makes_one_version(project: Project, job: str) -> None:
    if job == "job-2":
        project.register("job-1")
    name = project.register(job, lost="models:upload").resource_name
    newest, *others = project.versions()
    assert newest["name"] == name
    assert len(others) == (job == "job-2")


@pytest.mark.parametrize("lost", ["/endpoints?", ":deployModel"])
def test_a_deployment_whose_answers_are_lost_makes_one_endpoint_with_one_model(project: Project, lost: str) -> None:
    model = project.register().resource_name
    record = project.deploy(model, lost=lost)
    [endpoint] = project.bench.client.get(project.bench.endpoints).json()["endpoints"]
    assert endpoint["name"] == record["name"]
    assert [deployed["id"] for deployed in endpoint["deployedModels"]] == [record["deployedModelId"]]


def test_the_next_version_takes_its_share_of_the_traffic(project: Project) -> None:
    first = project.deploy(project.register("job-1").resource_name)
    second = project.deploy(project.register("job-2").resource_name, traffic_percentage=30)
    assert second["name"] == first["name"]
    assert second["trafficSplit"] == {first["deployedModelId"]: 70, second["deployedModelId"]: 30}


def test_files_go_to_another_bucket_whole(project: Project, shared: Bench) -> None:
    uri = str(project.register(model_output_root_dir=f"gs://{BUCKET}/release").record["artifactUri"])
    folder = shared.service.settings.buckets / uri.removeprefix("gs://")
    assert {name: (folder / name).read_bytes() for name in CONTENT} == CONTENT
    assert (folder / "COMMIT.json").read_bytes() == (shared.service.settings.buckets / CHECKPOINT.removeprefix("gs://") / "COMMIT.json").read_bytes()


def test_expired_models_are_undeployed_from_the_command_line(project: Project, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    if not has(project.bench, "/customJobs"):
        pytest.skip("the tuning service has no customJobs, which `tuneline costs` lists")
    record = project.deploy(project.register().resource_name, undeploy_after_hours=1)
    label = f"tuneline-undeploy-{record['deployedModelId']}"
    project.bench.client.patch(f"/v1/{record['name']}?updateMask=labels", json={"labels": {label: "20200101t000000z"}})
    assert main(["costs", "--project", project.project, "--region", "us-central1", "--undeploy-expired"]) == 0
    assert f"undeployed {record['model']}" in capsys.readouterr().out
    assert "deployedModels" not in project.bench.get(record["name"]) or project.bench.get(record["name"])["deployedModels"] == []


def test_the_job_of_the_schedule_takes_the_model_off(project: Project) -> None:
    record = project.deploy(project.register().resource_name, undeploy_after_hours=1)
    [schedule] = project.bench.get(f"{project.bench.place}/schedules")["schedules"]
    assert schedule["state"] == "ACTIVE"
    project.bench.client.patch(
        f"/v1/{record['name']}?updateMask=labels", json={"labels": {f"tuneline-undeploy-{record['deployedModelId']}": "20200101t000000z"}}
    )
    job = project.bench.client.post(f"/v1/{project.bench.place}/pipelineJobs", json=schedule["createPipelineJobRequest"]["pipelineJob"]).json()
    deadline = time.monotonic() + 60
    while (found := project.bench.get(job["name"]))["state"] not in ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found["state"] == "PIPELINE_STATE_SUCCEEDED", found
    assert not project.bench.get(record["name"]).get("deployedModels")


def test_what_was_measured_is_at_the_version(project: Project) -> None:
    if not has(project.bench, "evaluations:import"):
        pytest.skip("the tuning service has no models' evaluations, to which upload-model imports")
    name = project.register(metric="rouge_l").resource_name
    project.register(metric="rouge_l")
    [evaluation] = project.bench.get(f"{name}/evaluations")["modelEvaluations"]
    assert evaluation["metrics"] == {"rougeLSum": 0.5}


def test_the_curves_are_in_the_tensorboard(project: Project, tmp_path: Path) -> None:
    board = project.bench.done(f"/v1/{project.bench.place}/tensorboards", {"displayName": "curves"})["name"]
    for _ in range(2):
        project.register(tensorboard_resource_id=board)
    [experiment] = project.bench.get(f"{board}/experiments")["tensorboardExperiments"]
    assert experiment["displayName"] == "our model"
    series = project.bench.get(f"{experiment['name']}/runs/job-1/timeSeries")["tensorboardTimeSeries"]
    assert {"/train_total_loss", "/eval_total_loss"} <= {each["displayName"] for each in series}
    loss = next(each["name"] for each in series if each["displayName"] == "/train_total_loss")
    assert [point["scalar"]["value"] for point in project.bench.get(f"{loss}:read")["timeSeriesData"]["values"]] == [2.0]
