"""`tuneline schedule` to Vertex AI: what is sent, what is refused before, what a person sees."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.steps.test_upload_model import resolved as resolved_choices
from tests.vertex.stub_api import Asked, StubApi, error
from tuneline.cli import main
from tuneline.templates import load
from tuneline.vertex.rest import ENDPOINT

PARENT = "projects/proj/locations/us-central1"
NAME = f"{PARENT}/schedules/7"
PLACE = ["--project", "proj", "--pipeline-region", "us-central1"]
CRON = "TZ=Europe/Berlin 0 3 * * 1"
JOB = [*PLACE, "--pipeline-root", "gs://bucket/out", "--dataset-uri", "gs://bucket/d.jsonl", "--large-model-reference", "code-bison@002", "--skip-unchanged"]
CREATE = ["schedule", "create", "tune-large-model", "--cron", CRON, *JOB]


def kept(state: str = "ACTIVE", **more: Any) -> dict[str, Any]:
    times = {"createTime": "2026-11-22T05:00:00Z", "nextRunTime": "2026-11-23T02:00:00Z"}
    return {"name": NAME, "displayName": "weekly", "state": state, "cron": CRON, "startedRunCount": "4", **times, **more}


@pytest.fixture
def service(api: StubApi) -> StubApi:
    """A tuning service that has the data and takes schedules."""
    api.on("GET", "/storage/v1/b/bucket", (200, {"location": "US"}))
    api.on("GET", "/testPermissions", lambda asked: (200, {"permissions": asked.query["permissions"]}))
    api.on("GET", "/o/d.jsonl", (200, {"size": "10"}))
    api.on("POST", f"/v1/{PARENT}/schedules", lambda asked: (200, kept(**asked.body)))
    return api


def posted(api: StubApi) -> list[Asked]:
    return [asked for asked in api.asked if asked.method == "POST"]


def test_a_dry_run_prints_what_is_sent_and_sends_nothing(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    more = [
        "--display-name", "weekly", "--labels", "team=a", "--service-account", "me@p.iam.gserviceaccount.com", "--max-runs", "5", "--allow-queueing",
        "--max-concurrent-runs", "2", "--start-time", "2026-11-24T00:00:00Z", "--end-time", "2027-11-24T00:00:00Z", "--train-steps", "20",
    ]  # fmt: skip
    assert main([*CREATE, *more, "--dry-run", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert service.asked == []
    assert main([*CREATE, *more]) == 0
    told = capsys.readouterr()
    assert told.out == f"{NAME}\n"
    assert told.err.endswith(f"The first run is due at 2026-11-23T02:00:00Z.\nPause it: tuneline schedule pause {NAME}\n")
    [sent] = posted(service)
    assert (printed["method"], printed["url"], printed["body"]) == ("POST", f"{service.address}/v1/{PARENT}/schedules", sent.body)
    request = sent.body.pop("createPipelineJobRequest")
    assert sent.body == {
        "displayName": "weekly", "cron": CRON, "maxConcurrentRunCount": "2", "maxRunCount": "5", "allowQueueing": True,
        "startTime": "2026-11-24T00:00:00Z", "endTime": "2027-11-24T00:00:00Z",
    }  # fmt: skip
    assert request.keys() == {"parent", "pipelineJob"}
    job = request["pipelineJob"]
    assert job.keys() == {"runtimeConfig", "labels", "serviceAccount", "pipelineSpec"}
    assert job["pipelineSpec"] == load("tune-large-model").spec
    assert job["labels"]["team"] == "a"
    assert job["runtimeConfig"] == {
        "gcsOutputDirectory": "gs://bucket/out",
        "parameterValues": {
            "project": "proj", "dataset_uri": "gs://bucket/d.jsonl", "large_model_reference": "code-bison@002", "skip_unchanged": True, "train_steps": 20,
            "model_display_name": "weekly",
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "schedule", "model"),
    [
        ([], "code-bison@002 d", "code-bison@002 d"),
        (["--model-display-name", "m"], "m", "m"),
        (["--display-name", "weekly"], "weekly", "weekly"),
        (["--display-name", "weekly", "--model-display-name", "m"], "weekly", "m"),
    ],
    ids=str,
)
def test_the_models_of_all_runs_have_one_name_without_a_day(given: list[str], schedule: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CREATE, *given, "--dry-run", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)["body"]
    assert body["displayName"] == schedule
    assert body["createPipelineJobRequest"]["pipelineJob"]["runtimeConfig"]["parameterValues"]["model_display_name"] == model


def test_all_problems_are_told_before_anything_is_sent(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--train-steps", "0", "--max-concurrent-runs", "0", "--end-time", "never", "--labels", "Team=a"]
    assert main(["schedule", "create", "tune-large-model", "--cron", "0 25 * * *", *JOB, *wrong]) == 1
    told = capsys.readouterr().err
    for part in ("--cron: found '0 25 * * *'", "--max-concurrent-runs: found 0", "--end-time: found 'never'", "'Team'", "train_steps: found 0"):
        assert part in told
    assert service.asked == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["create"], "--cron is missing.\nTEMPLATE is missing"),
        (["create", "tune-large-model"], "--cron is missing.\n--project is missing.\n--pipeline-region is missing."),
        (["create", "tune-large-model", "--cron", CRON, *PLACE, "--job-id", "x"], "unknown flag '--job-id'"),
        (["create", "tune-large-model", "--cron", CRON, *PLACE, "--template-uri", "x"], "unknown flag '--template-uri'"),
        (["create", "tune-large-model", "--cron", CRON, *PLACE, "--max-runs", "many"], "--max-runs: found 'many'; expected a whole number."),
        (["create", "tune-large-model", "--cron", CRON, *PLACE, "--namespace", "n"], "--namespace is for Kubeflow"),
        (["show", "7"], "--project and --pipeline-region are missing"),
        (["list", "--project", "p"], "--project and --pipeline-region are missing"),
        (["pause", NAME, "--namespace", "n"], "--namespace is for Kubeflow"),
        (["list", "--kubeflow", "host", "--project", "p"], "--project is for Vertex AI"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", *arguments]) == 2
    assert told in capsys.readouterr().err


def test_data_that_is_not_there_is_told_before_the_schedule_is_made(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service.on("GET", "/o/d.jsonl", error(404, "NOT_FOUND"))
    assert main(CREATE) == 1
    assert "dataset_uri: there is no object gs://bucket/d.jsonl" in capsys.readouterr().err
    assert posted(service) == []
    assert main([*CREATE, "--skip-preflight", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedule"] == NAME


def test_an_answer_that_is_lost_makes_no_second_schedule(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service.on("POST", "/schedules", error(503, "UNAVAILABLE"))
    assert main(CREATE) == 13
    assert "Look for it: tuneline schedule list --project proj --pipeline-region us-central1" in capsys.readouterr().err
    assert len(posted(service)) == 1


def test_google_is_asked_for_nothing_that_is_not_built(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert main([*CREATE, "--accelerator-type", "TPU"]) == 1
    assert "tuning on TPU is not built yet" in capsys.readouterr().err


def test_schedules_are_listed(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    paused = kept("PAUSED", name=f"{PARENT}/schedules/8", nextRunTime="")
    api.on("GET", f"/{PARENT}/schedules", (200, {"schedules": [kept()], "nextPageToken": "t"}), (200, {"schedules": [paused]}))
    assert main(["schedule", "list", *PLACE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["SCHEDULE", "STATE"], ["7", "ACTIVE"], ["8", "PAUSED"]]
    assert [cell.strip() for cell in lines[1].split("  ") if cell] == ["7", "ACTIVE", CRON, "2026-11-23 02:00:00", "weekly"]
    api.on("GET", f"/{PARENT}/schedules", (200, {}))
    assert main(["schedule", "list", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"schedules": []}


def test_a_schedule_is_shown_with_its_last_run(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    last = {"scheduledRunTime": "2026-11-16T02:00:00Z", "runResponse": f"{PARENT}/pipelineJobs/j"}
    api.on("GET", f"/v1/{NAME}", (200, kept(lastScheduledRunResponse=last)))
    assert main(["schedule", "show", NAME]) == 0
    told = capsys.readouterr().out
    assert told.splitlines()[0] == f"{NAME}  ACTIVE"
    for line in ("cron      TZ=Europe/Berlin 0 3 * * 1", "next run  2026-11-23T02:00:00Z", f"last run  {PARENT}/pipelineJobs/j", "runs      4"):
        assert line in told
    assert main(["schedule", "show", "7", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["started_runs"] == 4


def test_what_became_of_the_last_run_is_told(api: StubApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    resolved = tmp_path / "resolved"
    resolved.write_text(replace(resolved_choices(), skip_reason="nothing is new.").to_json())
    outputs = {"resolved": {"artifacts": [{"uri": str(resolved)}]}}
    job = {"name": f"{PARENT}/pipelineJobs/j", "state": "PIPELINE_STATE_SUCCEEDED"}
    job |= {"jobDetail": {"taskDetails": [{"taskName": "validate-parameters", "state": "SUCCEEDED", "outputs": outputs}]}}
    last = {"scheduledRunTime": "2026-11-16T02:00:00Z", "runResponse": f"{PARENT}/pipelineJobs/j"}
    api.on("GET", f"/v1/{NAME}", (200, kept(lastScheduledRunResponse=last))).on("GET", f"/v1/{PARENT}/pipelineJobs/j", (200, job))
    assert main(["schedule", "show", NAME]) == 0
    assert f"last run  {PARENT}/pipelineJobs/j  SUCCEEDED  Skipped: nothing is new.\n" in capsys.readouterr().out
    assert main(["schedule", "show", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["last_run_became"] == ["SUCCEEDED", "Skipped: nothing is new."]


@pytest.mark.parametrize(("verb", "state", "body"), [("pause", "PAUSED", {}), ("resume", "ACTIVE", {})])
def test_what_is_so_already_is_no_error(api: StubApi, verb: str, state: str, body: Any, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", f"/v1/{NAME}:{verb}", (200, {}), error(503, "UNAVAILABLE"), error(400, "FAILED_PRECONDITION")).on("GET", f"/v1/{NAME}", (200, kept(state)))
    for _ in range(2):
        assert main(["schedule", verb, "7", *PLACE]) == 0
        assert capsys.readouterr().out.startswith(f"{NAME}  {state}\n")
    assert [asked.body for asked in posted(api)] == [body] * 3


def test_a_refusal_to_resume_is_told(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", f"/v1/{NAME}:resume", error(400, "FAILED_PRECONDITION", "it has ended")).on("GET", f"/v1/{NAME}", (200, kept("COMPLETED")))
    assert main(["schedule", "resume", NAME, "--catch-up"]) == 1
    assert "it has ended" in capsys.readouterr().err
    assert posted(api)[0].body == {"catchUp": True}


def test_a_schedule_is_deleted_once_the_operation_has_ended(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("DELETE", f"/v1/{NAME}", (200, {"name": f"{NAME}/operations/1", "done": True, "response": {}}))
    assert main(["schedule", "delete", NAME]) == 0
    assert capsys.readouterr().out == f"{NAME} is deleted.\n"
    api.on("DELETE", f"/v1/{NAME}", error(404, "NOT_FOUND"))
    assert main(["schedule", "delete", NAME]) == 1


@pytest.mark.parametrize("wrong", [f"{PARENT}/pipelineJobs/j", f"{NAME}/x", "a/b"])
def test_a_name_of_something_else_is_refused(wrong: str, api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "show", wrong]) == 1
    assert "expected an id, or projects/PROJECT/locations/REGION/schedules/ID" in capsys.readouterr().err
    assert api.asked == []


def test_help_tells_the_options_and_the_template_s_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schedule", "create", "tune-large-model", "--help"]) == 0
    told = capsys.readouterr().out
    for part in ("--cron CRON", "--skip-unchanged true|false", "--max-runs NUMBER", "[the schedule's name]"):
        assert part in told
