"""`tuneline submit` to Vertex AI: what is sent, what is refused before, what a person sees, and the exit codes."""

import json
from collections.abc import Callable
from typing import Any

import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError

from tests.vertex.stub_api import HANG_UP, Asked, StubApi, error
from tuneline import remote_job
from tuneline.cli import main
from tuneline.templates import HOSTED_PREFIX, load
from tuneline.vertex import pipeline_jobs
from tuneline.vertex.rest import ENDPOINT

HOSTED = f"{HOSTED_PREFIX}tune-large-model/v3.0.0"
PLACE = ["--project", "proj", "--pipeline-region", "us-central1", "--pipeline-root", "gs://bucket/out"]
JOB = [*PLACE, "--dataset-uri", "gs://bucket/d.jsonl", "--model-display-name", "m", "--large-model-reference", "code-bison@002", "--train-steps", "20"]
PARENT = "/v1/projects/proj/locations/us-central1/pipelineJobs"
MODEL = "projects/proj/locations/us-central1/models/7@1"


@pytest.fixture(autouse=True)
def poll_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_job, "POLL_SECONDS", 0.0)


def details(*tasks: tuple[str, str]) -> dict[str, Any]:
    return {"jobDetail": {"taskDetails": [{"taskName": name, "state": state, "startTime": "2026-11-22T05:00:00Z"} for name, state in tasks]}}


def service(api: StubApi, *looks: dict[str, Any]) -> Callable[[], list[Asked]]:
    """A tuning service that has the data and takes jobs; each look at a job tells the next of `looks`. The jobs that were created."""
    api.on("GET", "/storage/v1/b/bucket", (200, {"location": "US"}))
    api.on("GET", "/testPermissions", lambda asked: (200, {"permissions": asked.query["permissions"]}))
    api.on("GET", "/o/d.jsonl", (200, {"size": "10"}))

    def named(asked: Asked, look: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"name": asked.path.removeprefix("/v1/"), "displayName": "d", **look}

    def created(asked: Asked) -> tuple[int, Any]:
        return 200, {**asked.body, "name": f"{asked.path.removeprefix('/v1/')}/{asked.query['pipelineJobId'][0]}", "state": "PIPELINE_STATE_PENDING"}

    answers = [lambda asked, look=look: named(asked, look) for look in looks]
    api.on("POST", PARENT, created)
    api.on("GET", PARENT + "/.*", *(answers or [error(404, "NOT_FOUND")]))
    return lambda: [asked for asked in api.asked if asked.method == "POST"]


def test_a_dry_run_prints_what_is_sent_and_sends_nothing(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    posted = service(api)
    key = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
    job = [*JOB, "--job-id", "mine", "--labels", "team=a,stage=b", "--encryption-spec-key-name", key, "--service-account", "me@p.iam.gserviceaccount.com"]
    assert main(["submit", "tune-large-model", *job, "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert api.asked == []
    assert main(["submit", "tune-large-model", *job, "--no-wait"]) == 0
    [sent] = posted()
    assert printed["method"] == "POST"
    assert printed["url"] == f"{api.address}{PARENT}?pipelineJobId=mine"
    assert (f"{api.address}{sent.path}", sent.query) == (printed["url"].partition("?")[0], {"pipelineJobId": ["mine"]})
    assert printed["body"] == sent.body
    assert sent.body["encryptionSpec"] == {"kmsKeyName": key}
    assert sent.body["runtimeConfig"]["parameterValues"] == {
        "project": "proj",
        "dataset_uri": "gs://bucket/d.jsonl",
        "model_display_name": "m",
        "large_model_reference": "code-bison@002",
        "train_steps": 20,
        "encryption_spec_key_name": key,
    }


def test_a_dry_run_for_people_is_an_http_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    monkeypatch.setattr(google.auth, "default", lambda **_: pytest.fail("a dry run needs no credentials"))
    assert main(["submit", "tune-large-model", *JOB, "--dry-run"]) == 0
    told = capsys.readouterr()
    head, _, body = told.out.partition("\n\n")
    request, content_type = head.splitlines()
    assert request.startswith(f"POST https://us-central1-aiplatform.googleapis.com{PARENT}?pipelineJobId=tune-large-model-")
    assert content_type == "Content-Type: application/json; charset=utf-8"
    assert json.loads(body)["pipelineSpec"] == load("tune-large-model").spec
    assert told.err == ""


def test_what_the_first_task_would_refuse_is_told_by_a_dry_run_and_refused_before_a_job(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert main(["submit", "tune-large-model", *JOB, "--accelerator-type", "TPU", "--dry-run"]) == 0
    assert "tuning on TPU is not built yet" in capsys.readouterr().err
    assert main(["submit", "tune-large-model", *JOB, "--accelerator-type", "TPU"]) == 1
    assert "tuning on TPU is not built yet" in capsys.readouterr().err


def test_all_problems_are_told_before_anything_is_sent(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--train-steps", "many", "--location", "mars", "--job-id", "X", "--labels", "Team=a"]
    place = ["--project", "proj", "--pipeline-region", "us-central1"]
    assert main(["submit", "tune-large-model", *place, "--dataset-uri", "d.jsonl", *wrong]) == 1
    told = capsys.readouterr().err
    for part in ("--job-id: found 'X'", "--pipeline-root is missing", "--labels: found the key 'Team'", "train_steps is 'many'", "location: found 'mars'"):
        assert part in told
    assert api.asked == []


def test_a_problem_is_told_as_json_too(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", *JOB, "--location", "mars", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["job"], told["state"], told["error"]["code"], told["error"]["attribution"]) == ("", "PIPELINE_STATE_FAILED", 1, "user")
    assert "location: found 'mars'" in told["error"]["cause"]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "TEMPLATE is missing"),
        (["tune-large-model"], "--project is missing.\n--pipeline-region is missing."),
        (["--project", "p", "tune-large-model"], "the template comes first"),
        (["tune-large-model", "again", *PLACE], "unexpected argument 'again'"),
        (["tune-large-model", *PLACE, "--wait", "--no-wait"], "exclude each other"),
        (["tune-large-model", *PLACE, "--experiment", "e"], "--experiment is for Kubeflow"),
        (["tune-large-model", *PLACE, "--kubeflow", "host"], "--pipeline-region is for Vertex AI"),
        (["tune-large-model", *PLACE, "--train-stps", "3"], "unknown flag '--train-stps'. Did you mean '--train-steps'?"),
        (["tune-large-model", *PLACE, "--labels", "team"], "--labels: found 'team'; expected KEY=VALUE."),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_without_waiting_the_job_s_name_is_all_that_is_printed(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service(api)
    assert main(["submit", "tune-large-model", *JOB, "--job-id", "mine", "--no-wait"]) == 0
    assert capsys.readouterr().out == f"{PARENT.removeprefix('/v1/')}/mine\n"
    assert main(["submit", "tune-large-model", *JOB, "--no-wait", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "PIPELINE_STATE_PENDING"


def test_a_job_is_watched_until_it_has_ended(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    upload = {"taskName": "upload-model", "state": "SUCCEEDED", "execution": {"metadata": {"output:model_resource_name": MODEL}}}
    ended = {"state": "PIPELINE_STATE_SUCCEEDED", "startTime": "2026-11-22T05:00:00Z", "endTime": "2026-11-22T05:01:04Z"}
    service(
        api,
        {"state": "PIPELINE_STATE_RUNNING"},
        {"state": "PIPELINE_STATE_RUNNING", **details(("tune-model", "RUNNING"), ("upload-model", "PENDING"))},
        {"state": "PIPELINE_STATE_RUNNING", **details(("tune-model", "RUNNING"), ("upload-model", "PENDING"))},
        {**ended, "jobDetail": {"taskDetails": [{"taskName": "tune-model", "state": "SKIPPED"}, upload]}},
    )
    assert main(["submit", "tune-large-model", *JOB, "--job-id", "mine"]) == 0
    told = capsys.readouterr()
    assert [line.split()[:2] for line in told.err.splitlines()[2:]] == [["tune-model", "running"], ["tune-model", "cached:"], ["upload-model", "succeeded"]]
    assert told.out.splitlines()[0] == f"{PARENT.removeprefix('/v1/')}/mine succeeded in 1:04."
    assert f"model     {MODEL}" in told.out


def test_json_is_one_object_with_what_came_of_the_job(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service(api, {"state": "PIPELINE_STATE_SUCCEEDED", **details(("tune-model", "SUCCEEDED"))})
    assert main(["submit", "tune-large-model", *JOB, "--json", "--quiet"]) == 0
    told = capsys.readouterr()
    answer = json.loads(told.out)
    assert answer["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert answer["tasks"] == [{"name": "tune-model", "state": "SUCCEEDED", "start_time": "2026-11-22T05:00:00Z", "end_time": ""}]
    assert told.err == ""


@pytest.mark.parametrize(
    ("task_error", "code"),
    [
        ({"code": 3, "message": "rows.jsonl:7: no output"}, 1),
        ({"code": 9, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}, 1),
        ({"code": 9, "message": "The replica workerpool0-0 exited with a non-zero status of 13."}, 13),
        ({"code": 14, "message": "a machine was lost"}, 13),
    ],
)
def test_a_failed_job_ends_with_the_code_of_its_task(api: StubApi, task_error: dict[str, Any], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"taskName": "tune-model", "state": "FAILED", "error": task_error}
    service(api, {"state": "PIPELINE_STATE_FAILED", "jobDetail": {"taskDetails": [failed]}, "error": {"code": 9, "message": "The DAG failed."}})
    assert main(["submit", "tune-large-model", *JOB]) == code
    told = capsys.readouterr()
    assert told.out == ""
    assert f"tune-model: {task_error['message']}" in told.err


def test_a_job_that_others_cancelled_ends_with_75(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service(api, {"state": "PIPELINE_STATE_CANCELLED", "error": {"code": 1, "message": "The job was cancelled."}})
    assert main(["submit", "tune-large-model", *JOB]) == 75
    assert "cancelled" in capsys.readouterr().err


def test_ctrl_c_leaves_the_job_running_and_says_how_to_cancel_it(
    api: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    posted = service(api)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_jobs, "look", interrupted)
    assert main(["submit", "tune-large-model", *JOB, "--job-id", "mine"]) == 130
    assert f"The job goes on. Cancel it: tuneline jobs cancel {PARENT.removeprefix('/v1/')}/mine" in capsys.readouterr().err
    assert [asked.path for asked in posted()] == [PARENT]


def test_a_job_that_can_be_asked_for_no_more_goes_on(api: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    service(api)
    monkeypatch.setattr(remote_job, "PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr("tuneline.vertex.backoff.Backoff.waits", lambda _: [])
    api.on("GET", PARENT + "/.*", HANG_UP)
    assert main(["submit", "tune-large-model", *JOB]) == 13
    assert "The job goes on." in capsys.readouterr().err


def test_data_that_is_not_there_is_told_before_the_job_is_created(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    posted = service(api)
    api.on("GET", "/o/d.jsonl", error(404, "NOT_FOUND"))
    assert main(["submit", "tune-large-model", *JOB, "--no-wait"]) == 1
    assert "dataset_uri: there is no object gs://bucket/d.jsonl" in capsys.readouterr().err
    assert posted() == []
    assert main(["submit", "tune-large-model", *JOB, "--no-wait", "--skip-preflight"]) == 0
    assert len(posted()) == 1


def test_what_the_preflight_cannot_tell_hinders_no_job(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    posted = service(api)
    api.on("GET", "/storage/v1/b/bucket", error(403, "PERMISSION_DENIED"))
    assert main(["submit", "tune-large-model", *JOB, "--no-wait"]) == 0
    assert "where gs://bucket is could not be told" in capsys.readouterr().err
    assert len(posted()) == 1


def test_a_hosted_template_may_be_sent_by_its_uri(capsys: pytest.CaptureFixture[str]) -> None:
    bodies = []
    for arguments in ([HOSTED, *JOB, "--template-uri"], ["tune-large-model", *JOB, "--template-uri", HOSTED]):
        assert main(["submit", *arguments, "--dry-run", "--json"]) == 0
        bodies.append(json.loads(capsys.readouterr().out)["body"])
    assert [body["templateUri"] for body in bodies] == [HOSTED, HOSTED]
    assert all("pipelineSpec" not in body for body in bodies)
    assert main(["submit", "tune-large-model", *JOB, "--template-uri", "--dry-run"]) == 1
    assert "--template-uri: found 'tune-large-model'" in capsys.readouterr().err


def test_images_may_come_from_a_registry_of_one_s_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", *JOB, "--image-registry", "us-docker.pkg.dev/p/r", "--no-cache", "--dry-run", "--json"]) == 0
    spec = json.loads(capsys.readouterr().out)["body"]["pipelineSpec"]
    found = {executor["container"]["image"] for executor in spec["deploymentSpec"]["executors"].values()}
    assert found == {"us-docker.pkg.dev/p/r/tuneline/base:0.1.0", "us-docker.pkg.dev/p/r/tuneline/tuner-gpu:0.1.0"}
    assert all(task["cachingOptions"] == {"enableCache": False} for task in spec["root"]["dag"]["tasks"].values())


def test_a_catalogue_that_cannot_be_read_is_told_with_the_other_problems(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", *JOB, "--catalog-uri", f"{tmp_path}/none.toml", "--location", "mars", "--dry-run"]) == 1
    told = capsys.readouterr().err
    assert "catalog_uri: " in told
    assert "no such file" in told
    assert "location: found 'mars'" in told


def test_vertex_ai_needs_credentials(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def default(**_: object) -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.delenv(ENDPOINT, raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    assert main(["submit", "tune-large-model", *JOB]) == 1
    assert "There are no Google credentials on this machine" in capsys.readouterr().err


def test_help_tells_the_options_and_the_template_s_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--pipeline-root URI" in told
    assert "--template-uri [URI]" in told
    assert "--train-steps NUMBER" in told
    assert told.count("--project PROJECT  ") == 1
    assert "--project TEXT" not in told


def test_what_has_no_effect_at_a_tuning_service_is_told(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service(api)
    job = [
        *JOB,
        "--deploy-model",
        "--undeploy-after-hours",
        "1",
        "--tuning-location",
        "us-east4",
        "--parent-model",
        "projects/proj/locations/us-central1/models/4",
    ]
    assert main(["submit", "tune-large-model", *job, "--no-wait"]) == 0
    told = capsys.readouterr().err
    for name in ("undeploy_after_hours", "tuning_location", "parent_model"):
        assert f"{name} has no effect outside Vertex." in told


def test_a_model_that_cannot_be_tuned_is_refused_before_the_job(api: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    job = [*JOB[:-4], "--large-model-reference", "google/gemma3@gemma-3-4b-it"]
    posted = service(api)
    assert main(["submit", "tune-large-model", *job]) == 1
    assert "google/gemma3@gemma-3-4b-it is a Gemma3ForConditionalGeneration" in capsys.readouterr().err
    monkeypatch.delenv(ENDPOINT)
    assert main(["submit", "tune-large-model", *job]) == 1
    assert "google/gemma3@gemma-3-4b-it is a Gemma3ForConditionalGeneration" in capsys.readouterr().err
    assert main(["submit", "tune-large-model", *job, "--dry-run"]) == 0
    assert "google/gemma3@gemma-3-4b-it is a Gemma3ForConditionalGeneration" in capsys.readouterr().err
    assert posted() == []


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--image-registry", "https://foo/bar"], "--image-registry is 'https://foo/bar'; expected a host and a path"),
        (["--image-registry", ""], "--image-registry is empty."),
        (["--job-id="], "--job-id is empty."),
        (["--deploy-model", "maybe"], "--deploy-model is 'maybe'; expected true or false, or nothing for true."),
    ],
)
def test_options_that_cannot_be_are_refused(api: StubApi, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", *JOB, *flags, "--dry-run"]) == 2
    assert told in capsys.readouterr().err


def test_in_the_region_local_of_a_service_the_root_may_be_a_folder(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["--project", "proj", "--pipeline-region", "local", "--pipeline-root", "/tmp/out", "--dataset-uri", "/tmp/d.jsonl"]
    job += ["--large-model-reference", "tuneline/tiny-code@001"]
    assert main(["submit", "tune-large-model", *job, "--dry-run"]) == 0
    assert '"gcsOutputDirectory": "/tmp/out"' in capsys.readouterr().out


def test_a_program_that_is_interrupted_knows_its_job(api: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    service(api, {"state": "PIPELINE_STATE_RUNNING"})

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline_jobs, "look", interrupted)
    assert main(["submit", "tune-large-model", *JOB, "--job-id", "mine", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["job"].endswith("/pipelineJobs/mine")
