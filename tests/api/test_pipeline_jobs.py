"""Pipeline jobs: what is refused, the queue, cancelling, restarts; one real job from request to model."""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import OVERLAY, PARENT, TRAINING_DATA
from tuneline.api.app import create_app
from tuneline.api.jobs import JobFolders, Runner
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.errors import UserError
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, RunState
from tuneline.registry.files import write_json
from tuneline.templates import HOSTED, names

JOBS = f"{PARENT}/pipelineJobs"
HOSTED_URI = next(uri for uri in HOSTED if uri.endswith("tune-large-model/v3.0.0"))


def request_body(**values: object) -> dict[str, object]:
    given = {"project": "proj", "model_display_name": "m", "dataset_uri": str(TRAINING_DATA), "large_model_reference": "code-bison@002", "train_steps": 2}
    return {"displayName": "a job", "templateUri": HOSTED_URI, "runtimeConfig": {"gcsOutputDirectory": "gs://b/o", "parameterValues": {**given, **values}}}


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No job process is started; the ids of those that would be."""
    started: list[str] = []
    monkeypatch.setattr(Runner, "_start", lambda _self, job_id: started.append(job_id))
    return started


def wait_for(look: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"train_stps": 3}, "unknown parameter 'train_stps'. Did you mean 'train_steps'?"),
        ({"evaluation_data_uri:": "gs://b/x"}, "unknown parameter 'evaluation_data_uri:'. Did you mean 'evaluation_data_uri'?"),
        ({"train_steps": "many"}, "train_steps is 'many'; expected a whole number."),
        ({"train_steps": 2.5}, "expected a whole number"),
        ({"location": "mars"}, "location: found 'mars'; expected one of us-central1"),
        ({"accelerator_type": "CPU"}, "accelerator_type: found 'CPU'"),
        ({"encryption_spec_key_name": "projects/p/locations/us-east4/keyRings/r/cryptoKeys/k"}, "expected us-central1"),
        ({"tensorboard_resource_id": "projects/p/locations/us-west1/tensorboards/1"}, "expected one in the pipeline's region"),
        ({"large_model_reference": "gpt-bison@002"}, "which is not in the model catalogue"),
        ({"catalog_uri": "/nowhere.toml"}, "/nowhere.toml"),
        ({"dataset_uri": ""}, "dataset_uri"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(client: TestClient, values: dict[str, object], told: str) -> None:
    answer = client.post(JOBS, json=request_body(**values))
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]
    assert client.get(JOBS).json() == {"pipelineJobs": []}


@pytest.mark.usefixtures("still")
def test_all_problems_come_at_once(client: TestClient) -> None:
    body = request_body(location="mars", train_steps=0, accelerator_type="CPU", large_model_reference="x@1")
    message = client.post(JOBS, json=body).json()["error"]["message"]
    assert sorted(line.partition(":")[0] for line in message.splitlines()) == ["accelerator_type", "large_model_reference", "location", "train_steps"]


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"templateUri": "https://us-kfp.pkg.dev/other/v1"}, "templateUri: found 'https://us-kfp.pkg.dev/other/v1'; expected one of https://"),
        ({"templateUri": "../../etc/passwd.yaml"}, "templateUri: found"),
        ({"templateUri": ""}, "missing, and there is no pipelineSpec"),
        ({"pipelineSpec": {"root": 1}}, "is not a compiled pipeline"),
        ({"runtimeConfg": {}}, "Did you mean 'runtimeConfig'?"),
        ({"runtimeConfig": {"parameters": {"x": {"intValue": 1}}}}, "expected runtimeConfig.parameterValues"),
        ({"labels": {"a": 1}}, "labels.a"),
    ],
)
def test_a_wrong_body_is_refused(client: TestClient, change: dict[str, object], told: str) -> None:
    answer = client.post(JOBS, json=request_body() | change)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


@pytest.mark.usefixtures("still")
def test_text_values_get_their_types_and_what_the_cloud_has_is_recorded(client: TestClient, settings: Settings) -> None:
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    body = request_body(train_steps="7.0", enable_early_stopping="false", enable_checkpoint_selection=True, accelerator_type="GPU", location="us-central1")
    body |= {"encryptionSpec": {"kmsKeyName": key}, "serviceAccount": "me@p.iam", "labels": {"team": "a"}}
    job = client.post(JOBS.replace("europe-west4", "us-central1"), json=body, params={"pipelineJobId": "mine"}).json()
    assert job["name"] == "projects/proj/locations/us-central1/pipelineJobs/mine"
    assert job["state"] == "PIPELINE_STATE_QUEUED"
    assert (job["encryptionSpec"], job["serviceAccount"], job["labels"]) == ({"kmsKeyName": key}, "me@p.iam", {"team": "a"})
    values = job["runtimeConfig"]["parameterValues"]
    assert (values["train_steps"], values["enable_early_stopping"], values["enable_checkpoint_selection"]) == (7, False, "true")
    assert (values["accelerator_type"], values["encryption_spec_key_name"]) == ("GPU", key)
    assert job["pipelineSpec"]["pipelineInfo"]["name"] == "tune-large-model"
    assert job["templateMetadata"]["version"].startswith("sha256:")
    ordered = json.loads((settings.home / "jobs" / "mine" / "job.json").read_text())["parameters"]
    assert (ordered["accelerator_type"], ordered["encryption_spec_key_name"], ordered["catalog_uri"]) == ("", "", settings.catalog)


@pytest.mark.usefixtures("still")
def test_all_built_in_templates_are_known_by_uri_and_name(client: TestClient) -> None:
    for uri in (*HOSTED, *names()):
        reference = {"large_model_reference": "tuneline/tiny-code@001"}
        assert client.post(JOBS, json=request_body(**reference) | {"templateUri": uri}).status_code == 200, uri
    assert len(client.get(JOBS).json()["pipelineJobs"]) == len(HOSTED) + len(names())


@pytest.mark.usefixtures("still")
def test_a_job_id_is_used_once_and_checked(client: TestClient) -> None:
    assert client.post(JOBS, json=request_body(), params={"pipelineJobId": "x"}).status_code == 200
    again = client.post(JOBS, json=request_body(), params={"pipeline_job_id": "x"})
    assert (again.status_code, again.json()["error"]["status"]) == (409, "ALREADY_EXISTS")
    for wrong in ("Upper", "../x", "1x", "x" * 129):
        assert client.post(JOBS, json=request_body(), params={"pipelineJobId": wrong}).status_code == 400
    assert client.post(JOBS.replace("/proj/", "/other/"), json=request_body(), params={"pipelineJobId": "x"}).status_code == 200


@pytest.mark.usefixtures("still")
def test_lists_page_filter_and_order(client: TestClient) -> None:
    for number in range(5):
        body = request_body() | {"displayName": f"job {number}", "labels": {"odd": str(number % 2)}}
        client.post(JOBS, json=body, params={"pipelineJobId": f"j{number}"})
    seen: list[str] = []
    token = ""
    while True:
        page = client.get(JOBS, params={"page_size": 2, "pageToken": token, "orderBy": "display_name"}).json()
        seen += [job["displayName"] for job in page["pipelineJobs"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert seen == [f"job {number}" for number in range(5)]
    odd = client.get(JOBS, params={"filter": "labels.odd=1", "readMask": "name"}).json()["pipelineJobs"]
    assert {job["displayName"] for job in odd} == {"job 1", "job 3"}
    assert "pipelineSpec" not in odd[0]
    for wrong in ({"pageToken": "nonsense"}, {"pageSize": -1}, {"page_size": "x"}, {"filter": "nonsense"}, {"orderBy": "labels desc asc"}):
        assert client.get(JOBS, params=wrong).status_code == 400, wrong


def test_a_queued_job_waits_its_turn(client: TestClient, still: list[str], settings: Settings) -> None:
    for name in ("first", "second"):
        client.post(JOBS, json=request_body(), params={"pipelineJobId": name})
    folders = JobFolders(settings.home / "jobs", settings.runs_dir)
    started: list[str] = []
    runner = Runner(folders, max_running=1, waiting=lambda: ["first", "second"], changed=lambda _id, _look: None)
    runner._start = started.append  # type: ignore[method-assign]
    runner.advance()
    assert started == ["first"]
    write_json(folders.of("first") / "outcome.json", {"state": "SUCCEEDED"})
    runner.advance()
    assert started == ["first", "second"]


def finished_job(client: TestClient, name: str) -> dict[str, object]:
    wait_for(lambda: client.get(f"{JOBS}/{name}").json()["state"] in ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED"))
    job: dict[str, object] = client.get(f"{JOBS}/{name}").json()
    return job


def test_a_queued_job_that_is_cancelled_never_runs(client: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    client.post(JOBS, json=request_body(), params={"pipelineJobId": "x"})
    assert client.post(f"{JOBS}/x:cancel", json={}).json() == {}
    job = finished_job(client, "x")
    assert job["state"] == "PIPELINE_STATE_CANCELLED"
    assert job["error"] == {"code": 1, "message": "The job was cancelled."}
    assert client.post(f"{JOBS}/x:cancel").status_code == 200
    assert client.delete(f"{JOBS}/x").json()["done"] is True
    assert client.get(f"{JOBS}/x").status_code == 404
    assert client.post(f"{JOBS}/x:cancel").status_code == 404


def test_bad_data_fails_the_job_with_its_lines(client: TestClient, tmp_path: Path) -> None:
    data = tmp_path / "bad.jsonl"
    data.write_text('{"input_text": "a", "output_text": "b"}\n{"input_text": "a"}\n' * 10)
    client.post(JOBS, json=request_body(dataset_uri=str(data)), params={"pipelineJobId": "x"})
    job = finished_job(client, "x")
    error = job["error"]
    assert job["state"] == "PIPELINE_STATE_FAILED"
    assert isinstance(error, dict)
    assert error["code"] == 3
    assert re.search(r"bad\.jsonl:2", error["message"])


def test_a_running_job_cannot_be_deleted(client: TestClient, still: list[str]) -> None:
    client.post(JOBS, json=request_body(), params={"pipelineJobId": "x"})
    answer = client.delete(f"{JOBS}/x")
    assert (answer.status_code, answer.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")


def test_two_services_do_not_share_a_folder(settings: Settings) -> None:
    with open_service(settings), pytest.raises(UserError, match="another service"), open_service(settings):
        pass


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, object], list[str]]]:
    """A real job, created by one service and finished under the next; and the states that were seen."""
    home = tmp_path_factory.mktemp("home")
    overlay = home / "catalog.toml"
    overlay.write_text(OVERLAY, encoding="utf-8")
    settings = Settings(home=home / "service", runs_dir=home / "runs", catalog=str(overlay))
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELINE_HOME", str(home))
        patch.setenv("OMP_NUM_THREADS", "1")
        with open_service(settings) as service:
            client = TestClient(create_app(service), base_url="http://127.0.0.1")
            seen.append(client.post(JOBS, json=request_body(), params={"pipelineJobId": "real"}).json()["state"])
            wait_for(lambda: client.get(f"{JOBS}/real").json()["state"] == "PIPELINE_STATE_RUNNING")
            seen.append("PIPELINE_STATE_RUNNING")
        with open_service(replace(settings, max_running=2)) as service:
            client = TestClient(create_app(service), base_url="http://127.0.0.1")
            yield client, finished_job(client, "real"), seen


def test_a_real_job_tunes_a_model(done: tuple[TestClient, dict[str, object], list[str]]) -> None:
    _, job, seen = done
    assert seen == ["PIPELINE_STATE_QUEUED", "PIPELINE_STATE_RUNNING"]
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    detail = job["jobDetail"]
    assert isinstance(detail, dict)
    uploads = [task for task in detail["taskDetails"] if task["taskName"] == "upload-model"]
    [root] = [task for task in detail["taskDetails"] if task["execution"]["schemaTitle"] == "system.Run"]
    assert len(uploads) == 1
    model = uploads[0]["execution"]["metadata"]["output:model_resource_name"]
    assert re.fullmatch(r"projects/proj/locations/europe-west4/models/\d+@1", model)
    assert root["execution"]["metadata"]["output:model_resource_name"] == model
    assert {task["state"] for task in detail["taskDetails"]} <= {"SUCCEEDED", "SKIPPED"}
    assert job["createTime"] <= job["startTime"] <= job["endTime"]  # type: ignore[operator]


def test_a_run_that_was_stopped_from_outside_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneline.api import job_process
    from tuneline.local import engine

    calls: list[str] = []

    def record(state: RunState) -> RunRecord:
        return RunRecord(name="x", pipeline="p", template="t", parameters={}, create_time="2026-01-01T00:00:00.000Z", state=state)

    def run(*_: object, **__: object) -> RunRecord:
        calls.append("run")
        folder = RunFolder.create(settings.runs_dir, "x", exact=True)
        folder.write(record(RunState.CANCELLED))
        return record(RunState.CANCELLED)

    def resume(_folder: Path, **_: object) -> RunRecord:
        calls.append("resume")
        return record(RunState.SUCCEEDED)

    monkeypatch.setattr(engine, "run", run)
    monkeypatch.setattr(engine, "resume", resume)
    folder = settings.home / "jobs" / "x"
    write_json(folder / "job.json", {"id": "x", "template": "tune-large-model", "parameters": {}, "environment": {}})
    arguments = [str(folder), str(settings.runs_dir)]
    assert job_process.main(arguments) == 75
    assert job_process.main(arguments) == 0
    assert job_process.main(arguments) == 0
    assert calls == ["run", "resume"]
    assert json.loads((folder / "outcome.json").read_text())["state"] == "SUCCEEDED"
