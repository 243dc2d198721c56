"""Tuning jobs: how a job follows its run to the model, is cancelled, fails, is tuned further and again."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.tuning_bench import (
    GEMINI,
    HP,
    JOBS,
    LLAMA,
    MOMENTS,
    OVERLAY,
    PARENT,
    SPEC,
    FakeRun,
    make_checkpoints,
    make_data,
    order_of,
    pipeline_values,
    request_body,
    wait_for,
)  # fmt: skip
from tuneline.api.app import create_app
from tuneline.api.jobs import Runner
from tuneline.api.server import open_service
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.api.store import Body, Store
from tuneline.registry import models
from tuneline.registry.files import try_lock


@pytest.fixture
def settings(settings: Settings) -> Settings:
    Path(settings.catalog).write_text(OVERLAY, encoding="utf-8")
    return settings


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No job process is started."""
    started: list[str] = []
    monkeypatch.setattr(Runner, "_start", lambda _self, job_id: started.append(job_id))
    return started


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Files by name, for the placeholders of a request."""
    return make_data(tmp_path)


@pytest.mark.usefixtures("still")
def test_lists_page_and_filter(client: TestClient, data: dict[str, str]) -> None:
    for number in range(5):
        body = request_body(data, GEMINI if number % 2 else LLAMA, tunedModelDisplayName=f"job {number}", labels={"odd": str(number % 2)})
        assert client.post(JOBS, json=body).status_code == 200
    first = client.get(JOBS, params={"pageSize": 3}).json()
    second = client.get(JOBS, params={"page_size": 3, "page_token": first["nextPageToken"]}).json()
    names = [job["tunedModelDisplayName"] for job in first["tuningJobs"] + second["tuningJobs"]]
    assert sorted(names) == [f"job {number}" for number in range(5)]
    assert "nextPageToken" not in second

    def found(text: str) -> set[str]:
        return {job["tunedModelDisplayName"][-1] for job in client.get(JOBS, params={"filter": text}).json()["tuningJobs"]}

    assert found("labels.odd=1") == found(f'base_model="{GEMINI}"') == {"1", "3"}
    assert found('state="JOB_STATE_QUEUED" AND tunedModelDisplayName="job 4"') == {"4"}
    assert found('tuned_model.model:"x"') == set()
    assert client.get(JOBS, params={"filter": "labls.odd=1"}).status_code == 400
    assert client.get(JOBS.replace("/proj/", "/other/")).json() == {"tuningJobs": []}
    assert all("_tuneline" not in job for job in first["tuningJobs"])


# The job and its run


def created(client: TestClient, data: dict[str, str], base: str = LLAMA, **changes: Any) -> Body:
    answer = client.post(JOBS, json=request_body(data, base, **changes))
    assert answer.status_code == 200, answer.json()
    job: Body = answer.json()
    return job


def reaches(client: TestClient, job: Body, state: str) -> Body:
    """The job, once it is in that state."""
    wait_for(lambda: client.get(f"/v1/{job['name']}").json()["state"] == state)
    found: Body = client.get(f"/v1/{job['name']}").json()
    return found


@pytest.mark.usefixtures("still")
def test_a_job_follows_its_run_to_the_model(client: TestClient, service: Service, data: dict[str, str]) -> None:
    job = created(client, data, f"{GEMINI}", **{f"{HP}__epochCount": 2})
    run = FakeRun(service, job)
    lock = try_lock(service.jobs.of(run.name) / "job.lock")
    assert lock is not None
    assert "startTime" not in reaches(client, job, "JOB_STATE_PENDING")
    with lock:
        run.begin()
        running = reaches(client, job, "JOB_STATE_RUNNING")
        wait_for(lambda: "tuningDataStats" in client.get(f"/v1/{job['name']}").json())
    assert (running["startTime"], "endTime" in running, "tunedModel" in running) == (MOMENTS[1], False, False)
    run.tune(4, 8).succeed(model_resource_name=f"{PARENT}/models/1@1", endpoint_resource_name=f"{PARENT}/endpoints/2")
    ended = reaches(client, job, "JOB_STATE_SUCCEEDED")
    assert ended["endTime"] == MOMENTS[3]
    assert ended["tunedModel"] == {
        "model": f"{PARENT}/models/1@1",
        "endpoint": f"{PARENT}/endpoints/2",
        "checkpoints": [
            {"checkpointId": "1", "epoch": "1", "step": "4"},
            {"checkpointId": "2", "epoch": "2", "step": "8", "endpoint": f"{PARENT}/endpoints/2"},
        ],
    }
    spread = {"sum": "10", "billableSum": "10", "min": 1, "max": 2, "mean": 1.5, "median": 1.5, "p5": 1.0, "p95": 2.0, "buckets": []}
    assert ended["tuningDataStats"] == {
        "supervisedTuningDataStats": {
            "tuningDatasetExampleCount": "30", "totalTuningCharacterCount": "4000", "totalBillableCharacterCount": "4000", "totalBillableTokenCount": "900",
            "tuningStepCount": "8", "userInputTokenDistribution": spread, "userOutputTokenDistribution": spread, "userMessagePerExampleDistribution": spread,
            "userDatasetExamples": [{"role": "user", "parts": [{"text": "hello"}]}], "totalTruncatedExampleCount": "3",
            "truncatedExampleIndices": ["2", "3", "5"], "droppedExampleReasons": [
                "More than 1,024 tokens, and nothing that is learned lies within them: left out.", "More than 1,024 tokens, its end was cut off.",
                "More than 1,024 tokens, and nothing that is learned lies within them: left out.",
            ],
        }
    }  # fmt: skip
    assert "experiment" not in ended  # a name there makes the SDK look for an experiment that has to exist


@pytest.mark.usefixtures("still")
def test_only_the_last_checkpoint_is_told_when_only_that_is_wanted(client: TestClient, service: Service, data: dict[str, str]) -> None:
    job = created(client, data, **{f"{SPEC}__exportLastCheckpointOnly": True})
    FakeRun(service, job).begin().tune(4, 8, 12).succeed(model_resource_name="m@1", endpoint_resource_name="")
    assert reaches(client, job, "JOB_STATE_SUCCEEDED")["tunedModel"] == {"model": "m@1", "checkpoints": [{"checkpointId": "3", "epoch": "3", "step": "12"}]}


@pytest.mark.usefixtures("still")
def test_damaged_files_of_a_run_keep_no_job_from_ending(client: TestClient, service: Service, data: dict[str, str]) -> None:
    job = created(client, data)
    run = FakeRun(service, job).begin()
    (run.folder / "dataset/statistics.json").write_text("{")
    run.succeed(model_resource_name="m@1")
    ended = reaches(client, job, "JOB_STATE_SUCCEEDED")
    assert ended["tunedModel"] == {"model": "m@1", "checkpoints": []}
    assert ended["tuningDataStats"] == {"supervisedTuningDataStats": {}}


@pytest.mark.usefixtures("still")
def test_a_creation_that_is_broken_off_leaves_nothing(client: TestClient, service: Service, data: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """After the pipeline job, before the tuning job."""
    insert = Store.insert

    def broken(store: Store, kind: str, body: Body) -> Body:
        if kind == "tuningJobs":
            raise RuntimeError
        return insert(store, kind, body)

    monkeypatch.setattr(Store, "insert", broken)
    with pytest.raises(RuntimeError):
        client.post(JOBS, json=request_body(data))
    assert client.get(JOBS).json() == {"tuningJobs": []}
    assert client.get(JOBS.replace("tuningJobs", "pipelineJobs")).json() == {"pipelineJobs": []}
    assert not list(service.jobs.folder.glob("*"))


@pytest.mark.usefixtures("still")
def test_a_run_that_ended_while_the_service_was_down_ends_its_job(settings: Settings, data: dict[str, str]) -> None:
    with open_service(settings) as service:
        job = created(TestClient(create_app(service), base_url="http://127.0.0.1"), data)
    FakeRun(service, job).begin().tune(1).succeed(model_resource_name="m@1")
    with open_service(settings) as service:
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        assert reaches(client, job, "JOB_STATE_SUCCEEDED")["tunedModel"]["model"] == "m@1"
        assert client.get(f"/v1/{job['pipelineJob']}").json()["state"] == "PIPELINE_STATE_SUCCEEDED"


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("by", ["tuningJob", "pipelineJob"])
@pytest.mark.parametrize("content", [None, "{}"])
def test_a_job_is_cancelled_by_either_of_its_names(client: TestClient, service: Service, data: dict[str, str], by: str, content: str | None) -> None:
    job = created(client, data)
    name = job["name"] if by == "tuningJob" else job["pipelineJob"]
    run = FakeRun(service, job)
    lock = try_lock(service.jobs.of(run.name) / "job.lock")
    assert lock is not None
    with lock:
        reaches(client, job, "JOB_STATE_PENDING")
        assert client.post(f"/v1beta1/{name}:cancel", content=content).json() == {}
        assert client.get(f"/v1/{job['name']}").json()["state"] == "JOB_STATE_CANCELLING"
        assert client.get(f"/v1/{job['pipelineJob']}").json()["state"] == "PIPELINE_STATE_CANCELLING"
        run.end({"state": "CANCELLED"})
        ended = reaches(client, job, "JOB_STATE_CANCELLED")
    assert ended["error"] == {"code": 1, "message": "The job was cancelled."}
    assert ended["endTime"]
    assert client.post(f"/v1/{job['name']}:cancel").json() == {}
    assert client.get(f"/v1/{job['name']}").json() == ended
    assert client.post(f"/v1/{PARENT}/tuningJobs/1:cancel").status_code == 404


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("by", ["name", "pipelineJob"])
def test_a_waiting_job_that_is_cancelled_has_ended_with_the_answer(client: TestClient, data: dict[str, str], by: str) -> None:
    job = created(client, data)
    assert client.post(f"/v1/{job[by]}:cancel").json() == {}
    ended = client.get(f"/v1/{job['name']}").json()
    assert (ended["state"], ended["error"]) == ("JOB_STATE_CANCELLED", {"code": 1, "message": "The job was cancelled."})
    assert client.get(f"/v1/{job['pipelineJob']}").json()["state"] == "PIPELINE_STATE_CANCELLED"


def test_bad_data_and_images_fail_the_job_with_their_lines(client: TestClient, data: dict[str, str]) -> None:
    good = {"role": "assistant", "content": "a"}
    image = {"type": "image_url", "image_url": {"url": "gs://b/x.jpeg"}}
    rows = [[{"role": "user", "content": "q"}, good], [{"role": "user", "content": [{"type": "text", "text": "q"}, image]}, good], [good]]
    Path(data["train"]).write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    ended = reaches(client, created(client, data), "JOB_STATE_FAILED")
    assert ended["error"]["code"] == 3
    assert re.search(r"train\.jsonl:2: /messages/0/content/1/type: 'image_url' is media; only text can be tuned here", ended["error"]["message"])
    assert re.search(r"train\.jsonl:3: .*the user begins", ended["error"]["message"])


# Tuning further, and again


@pytest.fixture
def tuned(client: TestClient, service: Service, data: dict[str, str], still: list[str]) -> Body:
    """A job that has tuned a model, which is registered."""
    job = created(client, data, tunedModelDisplayName="first", outputUri="@out", labels={"team": "a"}, **{f"{HP}__epochCount": 2, f"{HP}__learningRate": 1e-4})
    run = FakeRun(service, job).begin().tune(4, 8)
    registration = models.Registration(project="proj", location="us-central1", display_name="first", pipeline_job_name=run.name, base_model=LLAMA, step=8)
    version = models.register(run.folder / "checkpoints/postprocess/node-0/checkpoints/final", registration)
    run.succeed(model_resource_name=version.resource_name)
    return reaches(client, job, "JOB_STATE_SUCCEEDED")


def test_a_tuned_model_is_tuned_further_from_any_of_its_checkpoints(client: TestClient, settings: Settings, data: dict[str, str], tuned: Body) -> None:
    name = tuned["tunedModel"]["model"]
    for checkpoint, step in (("", 8), ("1", 4), ("2", 8)):
        source = {"tuned_model_name": name, **({"checkpoint_id": checkpoint} if checkpoint else {})}
        job = created(client, data, baseModel=None, preTunedModel=source)
        assert job["preTunedModel"] == {"tunedModelName": name, "baseModel": LLAMA, **({"checkpointId": checkpoint} if checkpoint else {})}
        assert job["tunedModelDisplayName"] == "first"  # the next version of the same model
        weights = Path(order_of(settings, job)["parameters"]["base_model_uri"], "model.safetensors")
        assert weights.read_text() == f"weights of checkpoint-{step}"
    shutil.rmtree(settings.runs_dir / f"tuning-job-{tuned['name'].rpartition('/')[2]}/checkpoints")
    for checkpoint, told in (("7", "found '7'; expected one of 1, 2."), ("1", "checkpoint 1 is no longer in the run's folder.")):
        source = {"tunedModelName": name, "checkpointId": checkpoint}
        message = client.post(JOBS, json=request_body(data, baseModel=None, preTunedModel=source)).json()["error"]["message"]
        assert message == f"preTunedModel.checkpointId: {told} Leave it out for the last checkpoint."


def test_a_tuned_model_is_rebased_by_each_of_its_names(client: TestClient, data: dict[str, str], tuned: Body) -> None:
    names = {"tuningJob": tuned["name"], "pipelineJob": tuned["pipelineJob"], "tunedModel": tuned["tunedModel"]["model"]}
    changes = {"supervisedTuningSpec": {"hyperParameters": {"epochCount": "5"}}, "state": 4}
    for key, name in names.items():
        body = {"tunedModelRef": {key: name}, "artifactDestination": {"outputUriPrefix": f"{data['out']}/{key}"}, "tuningJob": changes}
        operation = client.post(f"{JOBS}:rebaseTunedModel", json=body).json()
        assert operation["done"] is True
        assert operation["metadata"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.RebaseTunedModelOperationMetadata"
        assert operation["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1beta1.TuningJob"
        assert client.get(f"/ui/{operation['name']}").json() == operation
        job = {key: value for key, value in operation["response"].items() if key != "@type"}
        assert client.get(f"/v1/{job['name']}").json() == job
        assert (job["baseModel"], job["tunedModelDisplayName"], job["labels"], job["outputUri"]) == (LLAMA, "first", {"team": "a"}, f"{data['out']}/{key}")
        assert job[SPEC]["hyperParameters"] == {"epochCount": "5", "batchSize": "8", "learningRate": 1e-4}
        assert (job["state"], "tunedModel" in job) == ("JOB_STATE_QUEUED", False)
    assert len(client.get(JOBS).json()["tuningJobs"]) == 4


@pytest.mark.usefixtures("still")
def test_a_model_of_a_pipeline_job_is_rebased_from_its_parameters(client: TestClient, service: Service, data: dict[str, str]) -> None:
    values = pipeline_values(data)
    pipelines = f"/v1/{PARENT}/pipelineJobs"
    pipeline = client.post(pipelines, json={"templateUri": "tune-large-model", "runtimeConfig": {"parameterValues": values}, "labels": {"a": "b"}}).json()
    body = {"tunedModelRef": {"pipelineJob": pipeline["name"]}}
    early = client.post(f"{JOBS}:rebaseTunedModel", json=body)
    assert (early.status_code, early.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    FakeRun(service, pipeline).begin().succeed()
    wait_for(lambda: client.get(f"/v1/{pipeline['name']}").json()["state"] == "PIPELINE_STATE_SUCCEEDED")
    job = client.post(f"{JOBS}:rebaseTunedModel", json=body).json()["response"]
    assert (job["baseModel"], job["tunedModelDisplayName"], job["labels"]) == ("code-bison@002", "old", {"a": "b"})
    assert job[SPEC]["trainingDatasetUri"] == data["train"]


def test_the_folder_of_a_job_that_came_first_is_not_taken(client: TestClient, data: dict[str, str], still: list[str]) -> None:
    job = created(client, data, outputUri="@out")
    make_checkpoints(Path(data["out"]), 1)
    answer = client.post(JOBS, json=request_body(data, outputUri=job["outputUri"]))
    assert "holds another job's model" in answer.json()["error"]["message"]
