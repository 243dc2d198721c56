"""`tuneline schedule` against the tuning service itself, behind a real socket, on a clock that the test moves."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import TRAINING_DATA
from tests.api.endpoint_bench import listening
from tests.api.test_pipeline_jobs import wait_for
from tests.registry.made_up import write_checkpoint
from tests.steps.test_validate_parameters import outcome
from tuneline.api.app import create_app
from tuneline.api.jobs import Job, Runner
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.pipeline_jobs import create_queue
from tuneline.api.scheduler import Scheduler
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.cli import main
from tuneline.interface import flag
from tuneline.registry import models
from tuneline.registry.files import write_json
from tuneline.registry.models import ModelVersion, Registration
from tuneline.vertex.rest import ENDPOINT

PLACE = ["--project", "proj", "--pipeline-region", "us-central1"]
JOB = [*PLACE, "--pipeline-root", "gs://bucket/out", "--dataset-uri", "gs://bucket/train.jsonl", "--large-model-reference", "code-bison@002"]


@pytest.fixture(autouse=True)
def address(service: Service, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The service's address, where commands of this test go, and a bucket with little data."""
    folder = settings.buckets / "bucket"
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(TRAINING_DATA.read_text(encoding="utf-8").splitlines(keepends=True)[:12]), encoding="utf-8")
    with listening(create_app(service)) as address:
        monkeypatch.setenv(ENDPOINT, address)
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        yield


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `tuneline schedule` answers to a program."""
    capsys.readouterr()
    assert main(["schedule", *arguments, "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def fire(service: Service, schedule: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Set the clock to the next due time; the job that this makes."""
    due = datetime.fromisoformat(told(capsys, "show", schedule)["next_run_time"])
    Scheduler(service).advance(due + timedelta(seconds=1))
    return service.store.get(told(capsys, "show", schedule)["last_run"])


def as_if_tuned(service: Service, job: dict[str, Any], folder: Path) -> ModelVersion:
    """The version that the job would have registered, by what its own first task finds."""
    run = job[PRIVATE]["run"]
    queue = create_queue(service.store, service.jobs, publish=lambda _job, _look: None)
    queue.begin(run)
    parameters = Job.read(service.jobs.of(run)).parameters
    given = {flag(name): str(value) for name, value in parameters.items()}
    resolved, _ = outcome({**given, "--template-name": "tune-large-model", "--pipeline-location": '["local"]'}, folder)
    registration = Registration(
        project="proj", location=resolved.upload_region, display_name="weekly", pipeline_job_name=run, data_fingerprint=resolved.data_fingerprint
    )
    write_json(service.jobs.of(run) / "outcome.json", {"state": "SUCCEEDED"})
    queue.changed(run, service.jobs.look(run))
    return models.register(write_checkpoint(folder / "checkpoint"), registration)


def test_a_schedule_that_skips_unchanged_data_fires_twice_and_tunes_once(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schedule = told(capsys, "create", "tune-large-model", "--cron", "TZ=Europe/Berlin 0 3 * * 1", "--display-name", "weekly", "--skip-unchanged", *JOB)
    assert (schedule["state"], schedule["started_runs"]) == ("ACTIVE", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Runner, "_start", lambda _self, _job_id: None)
        version = as_if_tuned(service, fire(service, schedule["schedule"], capsys), tmp_path / "first")
    second = fire(service, schedule["schedule"], capsys)["name"]
    wait_for(lambda: service.store.get(second)["state"] in ("PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED"))
    job = service.store.get(second)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job.get("error")
    record = service.jobs.record(job[PRIVATE]["run"])
    assert record is not None
    skipped = {task.outputs.artifacts[name].metadata["skipped"] for task in record.tasks.values() for name in task.outputs.artifacts}
    assert skipped == {f"{version.resource_name} was tuned from the same data with the same parameters."}
    assert len(record.tasks) == 7
    assert [found.resource_name for found in models.list_versions()] == [version.resource_name]
    assert told(capsys, "show", schedule["schedule"])["started_runs"] == 2


def test_a_schedule_is_listed_paused_resumed_and_deleted(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--max-runs", "3", "--allow-queueing", "--start-time", "2030-01-07T00:00:00Z", "--labels", "team=a"]
    schedule = told(capsys, "create", "tune-large-model", "--cron", "0 3 * * 1", *JOB, *more)
    assert schedule["next_run_time"] == "2030-01-07T03:00:00.000Z"
    [listed] = told(capsys, "list", *PLACE)["schedules"]
    assert listed == schedule
    assert told(capsys, "pause", schedule["schedule"])["state"] == "PAUSED"
    assert told(capsys, "pause", schedule["schedule"])["state"] == "PAUSED"
    assert told(capsys, "resume", schedule["schedule"], "--catch-up")["state"] == "ACTIVE"
    assert told(capsys, "delete", schedule["schedule"])["state"] == "DELETED"
    assert main(["schedule", "show", schedule["schedule"]]) == 1


def test_what_the_service_refuses_is_told_with_its_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--tensorboard-resource-id", "projects/proj/locations/us-central1/tensorboards/9"]
    assert main(["schedule", "create", "tune-large-model", "--cron", "0 3 * * 1", *JOB, *wrong]) == 1
    assert "tensorboards/9 does not exist here" in capsys.readouterr().err
    assert told(capsys, "list", *PLACE)["schedules"] == []
