"""Pipeline jobs: what is refused, the queue, cancelling, restarts; one real job from request to model."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import OVERLAY, PARENT, TRAINING_DATA
from tests.api.tuning_bench import order_of
from tuneline.api.app import create_app
from tuneline.api.jobs import JobFolders, Look, Runner
from tuneline.api.resources.pipeline_jobs import create_queue
from tuneline.api.server import open_service
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.errors import UserError
from tuneline.local.run_folder import RunFolder
from tuneline.local.run_record import RunRecord, RunState
from tuneline.registry.files import try_lock, write_json
from tuneline.registry.processes import ProcessIdentity
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


def run_record(name: str, state: RunState) -> RunRecord:
    return RunRecord(name=name, pipeline="p", template="t", parameters={}, create_time="2026-01-01T00:00:00.000Z", state=state)


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
    body = request_body(location="mars", train_steps=0, accelerator_type="CPU", large_model_reference="x@1") | {"labels": {"Team": "a"}}
    message = client.post(JOBS, json=body).json()["error"]["message"]
    expected = ["accelerator_type", "labels", "large_model_reference", "location", "train_steps"]
    assert sorted(line.partition(":")[0] for line in message.splitlines()) == expected


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
        ({"labels": {"Team": "a"}}, "labels: found the key 'Team'"),
        ({"labels": {"team": "A b"}}, "labels: found the value 'A b' of 'team'"),
        ({"labels": {f"k{number}": "" for number in range(65)}}, "labels: found 65; expected at most 64"),
    ],
)
def test_a_wrong_body_is_refused(client: TestClient, change: dict[str, object], told: str) -> None:
    answer = client.post(JOBS, json=request_body() | change)
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


@pytest.mark.usefixtures("still")
def test_a_value_without_its_type_hides_no_other_problem(client: TestClient) -> None:
    answer = client.post(JOBS, json=request_body(train_steps="x", location="mars", accelerator_type="GPUs", learning_rte=1)).json()["error"]["message"]
    for told in ("train_steps is 'x'", "location: found 'mars'", "accelerator_type: found 'GPUs'", "learning_rte"):
        assert told in answer


@pytest.mark.usefixtures("still")
def test_a_model_that_cannot_be_tuned_is_refused_by_name(client: TestClient) -> None:
    answer = client.post(JOBS, json=request_body(large_model_reference="google/gemma3@gemma-3-4b-it"))
    assert answer.status_code == 400
    assert "is a Gemma3ForConditionalGeneration" in answer.json()["error"]["message"]


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
    ordered = order_of(settings, job)["parameters"]
    assert (ordered["accelerator_type"], ordered["encryption_spec_key_name"], ordered["catalog_uri"]) == ("", "", settings.catalog)


@pytest.mark.usefixtures("still")
def test_all_built_in_templates_are_known_by_uri_and_name(client: TestClient) -> None:
    for uri in (*HOSTED, *names()):
        reference = {"large_model_reference": "tuneline/tiny-code@001"}
        assert client.post(JOBS, json=request_body(**reference) | {"templateUri": uri}).status_code == 200, uri
    assert len(client.get(JOBS).json()["pipelineJobs"]) == len(HOSTED) + len(names())


@pytest.mark.usefixtures("still")
def test_a_service_needs_no_catalogue_of_its_own(settings: Settings) -> None:
    with open_service(replace(settings, catalog="")) as service:
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        answer = client.post(JOBS, json=request_body(large_model_reference="tuneline/tiny-code@001"))
    assert answer.status_code == 200, answer.text


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


class Line:
    """A queue in memory: the states of jobs, and the room that was asked for."""

    def __init__(self, *waiting: str) -> None:
        self.states = dict.fromkeys(waiting, "waits")
        self.ended: list[str] = []

    def begun(self) -> list[str]:
        return [job_id for job_id, state in self.states.items() if state == "begun"]

    def waiting(self, limit: int) -> list[str]:
        return [job_id for job_id, state in self.states.items() if state == "waits"][:limit]

    def begin(self, job_id: str) -> bool:
        self.states[job_id] = "begun"
        return True

    def cancel(self, name: str) -> None:
        """Nobody does."""

    def changed(self, job_id: str, look: Look) -> None:
        if look.state.has_ended:
            del self.states[job_id]
            self.ended.append(job_id)


@pytest.fixture
def folders(settings: Settings) -> JobFolders:
    return JobFolders(settings.home / "jobs", settings.runs_dir)


def starting(runner: Runner) -> list[str]:
    """The jobs that a runner begins from now on; none gets a process."""
    started: list[str] = []

    def start(job_id: str) -> None:
        if runner._queue.begin(job_id):
            started.append(job_id)

    runner._start = start  # type: ignore[method-assign]
    return started


def test_a_queued_job_waits_its_turn(folders: JobFolders) -> None:
    line = Line("first", "second")
    runner = Runner(folders, line, max_running=1)
    started = starting(runner)
    runner.advance()
    assert (started, line.waiting(5)) == (["first"], ["second"])
    write_json(folders.of("first") / "outcome.json", {"state": "SUCCEEDED"})
    runner.advance()
    runner.advance()
    assert (started, line.ended) == (["first", "second"], ["first"])


def test_what_an_earlier_service_had_begun_goes_on_before_anything_new(folders: JobFolders) -> None:
    line = Line("waits", "dead", "alive", "done")
    for job_id in ("dead", "alive", "done"):
        line.begin(job_id)
    write_json(folders.of("done") / "outcome.json", {"state": "FAILED"})
    runner = Runner(folders, line, max_running=2)
    started = starting(runner)
    lock = try_lock(folders.of("alive") / "job.lock")
    assert lock is not None
    with lock:
        for _ in range(3):
            runner.advance()
    assert (set(started), line.ended, line.states["waits"]) == ({"dead"}, ["done"], "waits")


def test_a_look_that_is_older_than_a_cancellation_changes_nothing(client: TestClient, service: Service, still: list[str]) -> None:
    name = client.post(JOBS, json=request_body(), params={"pipelineJobId": "x"}).json()["name"]
    lock = try_lock(service.jobs.of("x") / "job.lock")
    assert lock is not None
    queue = create_queue(service.store, service.jobs, publish=lambda _job, _look: None)
    with lock:
        before = service.jobs.look("x")
        queue.changed("x", before)
        queue.cancel(name)
        queue.changed("x", before)
        assert (before.state, service.store.get(name)["state"]) == ("RUNNING", "PIPELINE_STATE_CANCELLING")
        write_json(service.jobs.of("x") / "outcome.json", {"state": "SUCCEEDED"})  # it was too late
        queue.changed("x", service.jobs.look("x"))
    assert service.store.get(name)["state"] == "PIPELINE_STATE_SUCCEEDED"


def test_a_damaged_job_keeps_no_other_from_running(folders: JobFolders) -> None:
    line = Line("damaged", "sound")
    folders.of("damaged").mkdir(parents=True)
    (folders.of("damaged") / "outcome.json").write_text("{")
    runner = Runner(folders, line, max_running=2)
    started = starting(runner)
    runner.advance()
    assert started == ["sound"]


def test_a_cancelled_job_without_a_process_ends_as_its_run_did(folders: JobFolders) -> None:
    """Its process was killed, or there never was one."""
    ends = {"none": "CANCELLED", "stopped": "CANCELLED", "failed": "FAILED", "succeeded": "SUCCEEDED", "copying": "CANCELLED"}
    states = {"stopped": RunState.RUNNING, "failed": RunState.FAILED, "succeeded": RunState.SUCCEEDED, "copying": RunState.SUCCEEDED}
    line = Line(*ends)
    for job_id in ends:
        line.begin(job_id)
        folders.cancel(job_id)
        order = {"id": job_id, "template": "t", "parameters": {}, "output_uri": "/out" if job_id == "copying" else ""}
        write_json(folders.of(job_id) / "job.json", order)
        if job_id in states:
            RunFolder.create(folders.runs_dir, job_id, exact=True).write(run_record(job_id, states[job_id]))
    runner = Runner(folders, line, max_running=1)
    started = starting(runner)
    runner.advance()
    runner.advance()
    assert (sorted(line.ended), started) == (sorted(ends), [])
    assert {job_id: json.loads((folders.of(job_id) / "outcome.json").read_text())["state"] for job_id in ends} == ends


def test_a_job_that_is_cancelled_just_before_its_turn_leaves_nothing_behind(folders: JobFolders) -> None:
    class Late(Line):
        def begin(self, job_id: str) -> bool:
            return False

    runner = Runner(folders, Late("x"), max_running=1)
    runner.advance()
    assert not folders.of("x").exists()


def test_the_process_of_a_cancelled_job_is_told_once_also_by_the_next_service(folders: JobFolders) -> None:
    line = Line("x")
    line.begin("x")
    program = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: print('told', flush=True)); print('ready', flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    write_json(folders.of("x") / "process.json", vars(ProcessIdentity.of(process.pid)))
    folders.cancel("x")  # and the service was killed before it could tell
    lock = try_lock(folders.of("x") / "job.lock")
    assert lock is not None
    with lock:
        for runner in (Runner(folders, line, max_running=1), Runner(folders, line, max_running=1)):
            for _ in range(3):
                runner.advance()
        assert process.stdout.readline() == "told\n"
    assert process.communicate()[0] == ""


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
            seen.append(client.post(JOBS, json=request_body() | {"labels": {"team": "a"}}, params={"pipelineJobId": "real"}).json()["state"])
            wait_for(lambda: client.get(f"{JOBS}/real").json()["state"] == "PIPELINE_STATE_RUNNING")
            seen.append("PIPELINE_STATE_RUNNING")
        with open_service(replace(settings, max_running=2)) as service:
            client = TestClient(create_app(service), base_url="http://127.0.0.1")
            yield client, finished_job(client, "real"), seen


def test_a_real_job_tunes_a_model(done: tuple[TestClient, dict[str, object], list[str]]) -> None:
    client, job, seen = done
    assert seen in [[f"PIPELINE_STATE_{first}", "PIPELINE_STATE_RUNNING"] for first in ("QUEUED", "PENDING")]  # its turn may come at once
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
    [tuned] = client.get(f"{PARENT}/models", params={"filter": "labels.team=a"}).json()["models"]
    assert (f"{tuned['name']}@1", tuned["labels"]["tune-type"]) == (model, "sft")


def test_a_run_that_was_stopped_from_outside_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneline.api import job_process
    from tuneline.local import engine

    calls: list[str] = []

    def run(*_: object, **__: object) -> RunRecord:
        calls.append("run")
        folder = RunFolder.create(settings.runs_dir, "x", exact=True)
        folder.write(run_record("x", RunState.CANCELLED))
        return run_record("x", RunState.CANCELLED)

    def resume(_folder: Path, **_: object) -> RunRecord:
        calls.append("resume")
        return run_record("x", RunState.SUCCEEDED)

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


@pytest.mark.parametrize("marked", [False, True], ids=["as it was", "cancelled meanwhile"])
def test_a_run_that_has_failed_is_not_begun_again(settings: Settings, monkeypatch: pytest.MonkeyPatch, marked: bool) -> None:
    """Its process was killed before it could tell."""
    from tuneline.api import job_process

    folder = settings.home / "jobs" / "x"
    write_json(folder / "job.json", {"id": "x", "template": "tune-large-model", "parameters": {}, "environment": {}})
    RunFolder.create(settings.runs_dir, "x", exact=True).write(run_record("x", RunState.FAILED))
    if marked:
        JobFolders(folder.parent, settings.runs_dir).cancel("x")
    assert job_process.main([str(folder), str(settings.runs_dir)]) == 0
    assert json.loads((folder / "outcome.json").read_text())["state"] == "FAILED"


def test_a_bug_ends_the_job_instead_of_starting_it_for_ever(settings: Settings) -> None:
    from tuneline.api import job_process

    folder = settings.home / "jobs" / "x"
    write_json(folder / "job.json", {"id": "x", "template": "tune-large-model", "parameters": None, "environment": {}})
    assert job_process.main([str(folder), str(settings.runs_dir)]) == 70
    assert json.loads((folder / "outcome.json").read_text())["state"] == "FAILED"
