"""`tuneline jobs`: what is asked of Vertex AI, and what a person or a program is told."""

import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.vertex.stub_api import StubApi, error
from tuneline import remote_job
from tuneline.catalog import load_catalog
from tuneline.cli import jobs, main
from tuneline.submission import check_parameters
from tuneline.templates import load
from tuneline.vertex import google_apis
from tuneline.vertex.rest import ENDPOINT, Vertex

PLACE = ["--project", "proj", "--pipeline-region", "us-central1"]
PARENT = "projects/proj/locations/us-central1/pipelineJobs"
FAILED = {"code": 3, "message": "tune-model: rows.jsonl:7: no output\nMend it."}


@pytest.fixture(autouse=True)
def poll_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_job, "POLL_SECONDS", 0.0)


def job(name: str, state: str, *tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    times = {"createTime": "2026-11-22T05:00:00.000Z", "startTime": "2026-11-22T05:00:01Z", "endTime": "2026-11-22T05:01:05Z"}
    return {"name": f"{PARENT}/{name}", "displayName": f"Job {name}", "state": f"PIPELINE_STATE_{state}", **times, "jobDetail": {"taskDetails": tasks}, **more}


def test_jobs_are_listed_as_a_table(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", PARENT, (200, {"pipelineJobs": [job("b", "RUNNING"), job("a", "SUCCEEDED")]}))
    assert main(["jobs", "list", *PLACE]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "JOB  STATE      CREATED              TOOK  NAME",
        "b    RUNNING    2026-11-22 05:00:00  1:04  Job b",
        "a    SUCCEEDED  2026-11-22 05:00:00  1:04  Job a",
    ]


def test_flags_narrow_the_list_and_texts_stay_texts(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", PARENT, (200, {}))
    flags = ["--state", "failed", "--label", "team=a b", "--label", "stage", "--display-name", 'say "x" OR y', "--since", "2026-11-22T00:00:00Z"]
    assert main(["jobs", "list", *PLACE, *flags, "--filter", "end_time>1 OR end_time<0"]) == 0
    assert api.asked[0].query["filter"] == [
        '(end_time>1 OR end_time<0) AND state="PIPELINE_STATE_FAILED" AND display_name="say \\"x\\" OR y" AND '
        'create_time>"2026-11-22T00:00:00Z" AND labels.team="a b" AND labels.stage:*'
    ]
    assert "No such jobs" in capsys.readouterr().err
    assert main(["jobs", "list", *PLACE, "--label", "a OR b"]) == 2
    assert main(["jobs", "list", *PLACE, "--limit", "0"]) == 2
    for since in ("yesterday", "2026-11-22T00:00:00"):
        assert main(["jobs", "list", *PLACE, "--since", since]) == 2
    assert main(["jobs", "list", *PLACE, "--since", "2026-11-22T02:00:00+02:00"]) == 0
    assert api.asked[-1].query["filter"] == ['create_time>"2026-11-22T00:00:00Z"']


def test_no_more_pages_are_asked_for_than_are_shown(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", PARENT, (200, {"pipelineJobs": [job("b", "RUNNING"), job("a", "RUNNING")], "nextPageToken": "t"}))
    assert main(["jobs", "list", *PLACE, "--limit", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["jobs"]
    assert [entry["job"] for entry in told] == [f"{PARENT}/b", f"{PARENT}/a"]
    assert "tasks" not in told[0]
    assert len(api.asked) == 1


@pytest.fixture
def resolved(tmp_path: Path) -> Path:
    """What the first task of a job on this machine left."""
    given = {"project": "p", "model_display_name": "m", "dataset_uri": "gs://bucket/d.jsonl"}
    found = check_parameters(load("tune-large-model"), given, pipeline_location="us-central1", catalog=load_catalog()).resolved
    assert found is not None
    file = tmp_path / "resolved"
    file.write_text(found.to_json(), encoding="utf-8")
    return file


def decided(uri: object) -> dict[str, Any]:
    return {"taskName": "validate-parameters", "state": "SUCCEEDED", "outputs": {"resolved": {"artifacts": [{"uri": str(uri)}]}}}


def test_a_job_is_shown_with_its_tasks_decisions_and_failure(api: StubApi, resolved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed = {"taskName": "tune-model", "state": "FAILED", "error": {"code": 3, "message": "rows.jsonl:7: no output"}}
    api.on("GET", f"{PARENT}/a", (200, job("a", "FAILED", decided(resolved), failed, error=FAILED)))
    assert main(["jobs", "show", "a", *PLACE]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"{PARENT}/a  FAILED\n")
    assert "Tuning computes in us-central1 on a2-ultragpu-8g" in told
    assert "validate-parameters  succeeded" in told
    assert told.endswith("tune-model: rows.jsonl:7: no output\nMend it.\n")


def test_json_has_the_decisions(api: StubApi, resolved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING", decided("gs://bucket/out/resolved"))))
    api.on("GET", "/storage/v1/b/bucket/o/out/resolved", (200, json.loads(resolved.read_text())))
    assert main(["jobs", "show", f"{PARENT}/a", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["resolved"]["tuning_region"], told["resolved"]["batch_size"]) == ("PIPELINE_STATE_RUNNING", "us-central1", 8)
    assert api.asked[-1].query == {"alt": ["media"]}


@pytest.mark.parametrize("uri", ["gs://bucket/gone", "/nowhere/resolved", "", "https://example.com/resolved"])
def test_decisions_that_cannot_be_read_are_left_out(api: StubApi, uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING", decided(uri))))
    assert main(["jobs", "show", "a", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resolved"] is None


def test_decisions_of_another_version_are_left_out(api: StubApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "resolved").write_text('{"backend": "vertex", "a_new_key": 1}')
    api.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING", decided(tmp_path / "resolved"))))
    assert main(["jobs", "show", "a", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["resolved"] is None


def test_a_job_is_cancelled_and_waited_for_when_asked(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    looks = [job("a", "RUNNING"), job("a", "CANCELLING"), job("a", "CANCELLED")]
    api.on("POST", f"{PARENT}/a:cancel", (200, {})).on("GET", f"{PARENT}/a", *[(200, look) for look in looks])
    assert main(["jobs", "cancel", "a", *PLACE, "--wait"]) == 0
    assert capsys.readouterr().out == f"{PARENT}/a  CANCELLED\n"
    assert [path.rpartition("/")[2] for path in api.paths] == ["a", "a:cancel", "a", "a"]


def test_without_waiting_a_cancelled_job_is_looked_at_once_more(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("POST", f"{PARENT}/a:cancel", (200, {})).on("GET", f"{PARENT}/a", (200, job("a", "RUNNING")), (200, job("a", "CANCELLING")))
    assert main(["jobs", "cancel", "a", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "PIPELINE_STATE_CANCELLING"


def test_a_job_that_has_ended_is_not_cancelled(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", f"{PARENT}/a", (200, job("a", "SUCCEEDED")))
    assert main(["jobs", "cancel", "a", *PLACE, "--wait"]) == 0
    assert capsys.readouterr().out == f"{PARENT}/a  SUCCEEDED\n"
    assert len(api.asked) == 1


def test_an_id_alone_does_not_say_where_the_job_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", "a"]) == 2
    assert "--project and --pipeline-region are missing" in capsys.readouterr().err


def test_a_job_that_is_not_there_is_told(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", "a", *PLACE]) == 1
    assert "NOT_FOUND" in capsys.readouterr().err


@pytest.fixture
def google(api: StubApi, monkeypatch: pytest.MonkeyPatch) -> StubApi:
    """The stub in the place of Google's own services, instead of a tuning service."""
    monkeypatch.delenv(ENDPOINT)
    monkeypatch.setattr(google_apis, "ADDRESSES", {"logging": f"{api.address}/v2"})
    monkeypatch.setattr(Vertex, "address", api.address)
    monkeypatch.setattr(jobs, "Vertex", lambda **given: Vertex(session=requests.Session(), **given))
    return api


def test_logs_are_the_entries_of_cloud_logging(google: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    task = {"taskName": "tune-model", "state": "RUNNING", "executorDetail": {"containerDetail": {"mainJob": "projects/1/locations/r/customJobs/11"}}}
    entry = {"timestamp": "2026-11-22T05:10:00Z", "textPayload": "step 1", "resource": {"labels": {"job_id": "11"}}}
    google.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING", task))).on("POST", "/v2/entries:list", (200, {"entries": [entry]}))
    assert main(["jobs", "logs", "a", *PLACE]) == 0
    told = capsys.readouterr()
    assert told.out == "2026-11-22 05:10:00  tune-model            step 1\n"
    assert told.err.startswith("https://console.cloud.google.com/logs/query;query=timestamp")
    assert main(["jobs", "logs", "a", *PLACE, "--task", "tune-model", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["lines"] == [{"time": "2026-11-22T05:10:00Z", "severity": "", "task": "tune-model", "text": "step 1"}]


def test_the_page_of_the_log_is_told_also_when_the_entries_may_not_be_read(google: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    google.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING"))).on("POST", "/v2/entries:list", error(403, "PERMISSION_DENIED"))
    assert main(["jobs", "logs", "a", *PLACE]) == 1
    assert "https://console.cloud.google.com/logs/query" in capsys.readouterr().err


def test_a_tuning_service_has_its_logs_as_files(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", f"{PARENT}/a", (200, job("a", "RUNNING")))
    assert main(["jobs", "logs", "a", *PLACE, "--task", "tune-model"]) == 0
    assert capsys.readouterr().out.startswith("logs/tune-model.log in the folder of the run, which `tuneline runs a` shows")
    assert main(["jobs", "logs", "a", *PLACE, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"] == []
    api.on("GET", f"{PARENT}/b", (200, job("b", "RUNNING", {"taskName": "tune-model", "state": "RUNNING"})))
    assert main(["jobs", "logs", "b", *PLACE, "--task", "tune-modle"]) == 1
    assert "Did you mean 'tune-model'?" in capsys.readouterr().err
    assert main(["jobs", "logs", "b", *PLACE, "--limit", "0"]) == 2


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["list", "--project", "proj", "--pipeline-region", ""], "--pipeline-region is empty."),
        (["show", f"{PARENT}/a", "--project", "other"], "--project is 'other', and the job's name says 'proj'. Leave --project out."),
        (["cancel", f"{PARENT}/a", "--pipeline-region", "mars"], "--pipeline-region is 'mars', and the job's name says 'us-central1'."),
    ],
)
def test_places_that_cannot_be_are_refused(api: StubApi, flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", *flags]) == 2
    assert told in capsys.readouterr().err
    assert api.asked == []


def test_a_program_gets_errors_as_json_too(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "show", "a", *PLACE, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)["error"]
    assert (told["code"], told["attribution"]) == (1, "user")
    assert "NOT_FOUND" in told["cause"]


def test_a_service_with_a_token_says_which_variable_has_it(api: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    api.on("GET", PARENT, error(401, "UNAUTHENTICATED"))
    assert main(["jobs", "list", *PLACE]) == 1
    assert "Set TUNELINE_VERTEX_TOKEN" in capsys.readouterr().err
