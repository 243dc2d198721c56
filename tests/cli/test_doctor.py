"""`tuneline doctor`: every check is told, whatever the others found, and the exit codes."""

import json

import google.auth
import pytest
from google.auth.exceptions import DefaultCredentialsError

from tests.vertex.stub_api import StubApi, error
from tuneline.cli import main
from tuneline.vertex.rest import ENDPOINT

PLACE = ["--project", "proj", "--pipeline-region", "us-central1", "--pipeline-root", "gs://bucket/out"]
JOB = ["tune-large-model", *PLACE, "--dataset-uri", "gs://bucket/d.jsonl", "--large-model-reference", "code-bison@002"]


@pytest.fixture
def service(api: StubApi) -> StubApi:
    """A tuning service with the data of the job."""
    api.on("GET", "/pipelineJobs", (200, {})).on("GET", "/storage/v1/b/bucket", (200, {"location": "US"})).on("GET", "/o/d.jsonl", (200, {"size": "10"}))
    return api.on("GET", "/testPermissions", lambda asked: (200, {"permissions": asked.query["permissions"]}))


def results(capsys: pytest.CaptureFixture[str], *arguments: str, code: int) -> dict[str, list[str]]:
    assert main(["doctor", *arguments, "--json"]) == code
    found: dict[str, list[str]] = {}
    for check in json.loads(capsys.readouterr().out)["checks"]:
        assert set(check) == {"name", "result", "found", "advice"}
        found.setdefault(check["name"], []).append(check["result"])
    return found


def test_a_job_that_could_run_ends_with_0(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert results(capsys, *JOB, code=0) == {
        "packages": ["ok"], "names": ["ok"], "template": ["ok"], "parameters": ["ok"], "catalogue": ["ok"], "placement": ["ok"], "vertex": ["ok"],
        "bucket": ["ok"],
    }  # fmt: skip


def test_problems_do_not_keep_the_network_s_checks_from_being_made(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    found = results(capsys, *JOB, "--location", "mars", "--train-steps", "many", "--job-id", "X", code=1)
    assert (found["names"], found["parameters"], found["placement"], found["vertex"], found["bucket"]) == (
        ["problem"],
        ["problem"],
        ["problem"],
        ["ok"],
        ["ok"],
    )


def test_a_service_that_does_not_answer_ends_with_13(service: StubApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tuneline.vertex.backoff.Backoff.waits", lambda _: [])
    service.on("GET", "/pipelineJobs", error(503, "UNAVAILABLE"))
    found = results(capsys, *JOB, code=13)
    assert (found["vertex"], found["bucket"]) == (["unknown"], ["ok"])


def test_people_are_told_what_to_do(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    service.on("GET", "/o/d.jsonl", error(404, "NOT_FOUND"))
    assert main(["doctor", *JOB]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "ok       packages    everything that submitting needs is installed"
    assert told[-2:] == [
        "PROBLEM  bucket      dataset_uri: there is no object gs://bucket/d.jsonl",
        "                     Copy the file there, or check the spelling.",
    ]


def test_without_a_template_the_project_is_looked_at(service: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert results(capsys, *PLACE, code=0)["vertex"] == ["ok"]


def test_without_credentials_what_needs_none_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def default(**_: object) -> None:
        raise DefaultCredentialsError("none")

    monkeypatch.delenv(ENDPOINT, raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    found = results(capsys, *JOB, "--upload-model", "false", code=1)
    assert (found["placement"], found["credentials"]) == (["ok"], ["problem"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--project is missing.\n--pipeline-region is missing."),
        (["tune-large-model", "again", *PLACE], "unexpected argument 'again'"),
        ([*PLACE, "tune-large-model"], "unexpected argument 'tune-large-model'"),
        (["tune-large-model", *PLACE, "--dry-run"], "unknown flag '--dry-run'"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *arguments]) == 2
    assert told in capsys.readouterr().err
