"""Schedules: cron with time zones, what is refused, and firing exactly once, on a clock that the test moves."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PARENT
from tests.api.test_pipeline_jobs import request_body, still
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.scheduler import Scheduler
from tuneline.api.service import Service
from tuneline.cron import Cron
from tuneline.errors import UserError
from tuneline.registry.files import write_json

SCHEDULES, JOBS = f"{PARENT}/schedules", f"{PARENT}/pipelineJobs"
__all__ = ["still"]


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 3 * * 1", "2026-11-24T00:00:00Z", "2026-11-30T03:00:00Z"),
        ("TZ=UTC 0 3 * * 1", "2026-11-30T03:00:00Z", "2026-12-07T03:00:00Z"),
        ("CRON_TZ=America/New_York 0 3 * * *", "2026-11-24T00:00:00Z", "2026-11-24T08:00:00Z"),
        ("TZ=Europe/Berlin 0 3 * * *", "2026-07-01T00:30:00Z", "2026-07-01T01:00:00Z"),
        ("TZ=Asia/Seoul */15 * * * *", "2026-11-24T00:01:00Z", "2026-11-24T00:15:00Z"),
    ],
)
def test_cron_knows_time_zones(cron: str, after: str, expected: str) -> None:
    assert Cron.parse(cron).after(datetime.fromisoformat(after)) == datetime.fromisoformat(expected)


def test_a_day_with_a_clock_change_has_one_run() -> None:
    cron = Cron.parse("TZ=Europe/Berlin 30 2 * * *")
    for first in ("2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z"):
        moment = datetime.fromisoformat(first)
        days = []
        for _ in range(4):
            moment = cron.after(moment)
            days.append(moment.astimezone(cron.zone).date())
        assert len(set(days)) == 4


@pytest.mark.parametrize("cron", ["", "0 3 * *", "0 3 * * 1 2", "61 * * * *", "0 0 30 2 *", "TZ=Mars/Base 0 3 * * 1", "TZ=../../etc 0 3 * * 1", "@daily"])
def test_a_wrong_cron_is_refused(cron: str) -> None:
    with pytest.raises(UserError, match=r"expected"):
        Cron.parse(cron)


def schedule_body(**changes: object) -> dict[str, object]:
    job = {key: value for key, value in request_body().items() if key != "displayName"}
    request = {"parent": PARENT.removeprefix("/v1/"), "pipelineJob": job}
    return {"displayName": "weekly", "cron": "*/10 * * * *", "maxConcurrentRunCount": "1", "createPipelineJobRequest": request} | changes


def create(client: TestClient, **changes: object) -> str:
    answer = client.post(SCHEDULES, json=schedule_body(**changes))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["name"])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"cron": "sometimes"}, "cron: found 'sometimes'"),
        ({"maxConcurrentRunCount": 0}, "maxConcurrentRunCount: found 0; expected at least 1"),
        ({"displayName": ""}, "displayName"),
        ({"endTime": "2020-01-01T00:00:00Z", "startTime": "2021-01-01T00:00:00Z"}, "expected a time after startTime"),
        ({"startTime": "tomorrow"}, "startTime"),
        ({"createPipelineJobRequest": {"pipelineJob": request_body(train_stps=1)}}, "Did you mean 'train_steps'?"),
        ({"createPipelineJobRequest": {"pipelineJob": request_body() | {"labels": {"Team": "a"}}}}, "labels: found the key 'Team'"),
        ({"createPipelineJobRequest": {"pipelineJob": request_body(), "pipelineJobId": "x"}}, "pipelineJobId"),
        ({"createPipelineJobRequest": {"parent": "projects/x/locations/y", "pipelineJob": request_body()}}, "the schedule's own"),
    ],
)
def test_a_wrong_schedule_is_refused_when_it_is_made(client: TestClient, changes: dict[str, object], told: str) -> None:
    answer = client.post(SCHEDULES, json=schedule_body(**changes))
    assert answer.status_code == 400
    assert told in answer.json()["error"]["message"]


def test_each_due_time_makes_one_job(client: TestClient, service: Service, still: list[str]) -> None:
    name = create(client, allowQueueing=True)
    scheduler = Scheduler(service)
    due = datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"])
    scheduler.advance(due - timedelta(seconds=1))
    assert client.get(JOBS).json() == {"pipelineJobs": []}
    scheduler.advance(due)
    scheduler.advance(due + timedelta(seconds=1))
    [job] = client.get(JOBS, params={"filter": f'schedule_name="{name}"'}).json()["pipelineJobs"]
    assert job["name"].endswith(f"-{due:%Y%m%d%H%M%S}")
    found = client.get(f"/v1/{name}").json()
    assert (found["startedRunCount"], found["lastScheduledRunResponse"]["runResponse"]) == ("1", job["name"])
    assert datetime.fromisoformat(found["nextRunTime"]) == due + timedelta(minutes=10)


def test_a_service_that_was_killed_after_creating_the_job_creates_no_second(client: TestClient, service: Service, still: list[str]) -> None:
    name = create(client)
    before = service.store.get(name)
    due = datetime.fromisoformat(before["nextRunTime"])
    Scheduler(service).advance(due)
    service.store.update(name, lambda _found: before)  # as it was before the kill
    Scheduler(service).advance(due + timedelta(seconds=5))
    assert len(client.get(JOBS).json()["pipelineJobs"]) == 1
    assert client.get(f"/v1/{name}").json()["startedRunCount"] == "1"


def test_a_run_that_is_still_open_lets_the_next_be_left_out(client: TestClient, service: Service, still: list[str]) -> None:
    name = create(client)
    due = datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"])
    scheduler = Scheduler(service)
    scheduler.advance(due)
    scheduler.advance(due + timedelta(minutes=10))
    assert client.get(f"/v1/{name}").json()["lastScheduledRunResponse"]["runResponse"].startswith("Skipped: 1 of at most 1 runs")
    [job] = service.store.in_states("pipelineJobs", "PIPELINE_STATE_QUEUED")
    write_json(service.jobs.of(job[PRIVATE]["run"]) / "outcome.json", {"state": "SUCCEEDED"})
    service.runner.advance()
    scheduler.advance(due + timedelta(minutes=20))
    assert len(client.get(JOBS).json()["pipelineJobs"]) == 2


def test_missed_times_are_skipped_or_caught_up(client: TestClient, service: Service, still: list[str]) -> None:
    for catches_up, expected in ((False, 1), (True, 4)):
        name = create(client, allowQueueing=True)
        due = datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"])
        client.post(f"/v1/{name}:pause", json={})
        client.post(f"/v1/{name}:resume", json={"catchUp": catches_up})
        service.store.update(name, lambda found, due=due: {**found, "nextRunTime": due.isoformat()})  # type: ignore[misc]
        for _ in range(6):
            Scheduler(service).advance(due + timedelta(minutes=35))
        jobs = client.get(JOBS, params={"filter": f'schedule_name="{name}"'}).json()["pipelineJobs"]
        assert len(jobs) == expected
        client.delete(f"/v1/{name}")


def test_pause_resume_update_and_the_end(client: TestClient, service: Service, still: list[str]) -> None:
    name = create(client, maxRunCount="1")
    due = datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"])
    assert client.post(f"/v1/{name}:resume", json={}).json()["error"]["status"] == "FAILED_PRECONDITION"
    assert client.post(f"/v1/{name}:pause", json={}).json() == {}
    Scheduler(service).advance(due + timedelta(hours=1))
    assert client.get(JOBS).json() == {"pipelineJobs": []}
    assert client.post(f"/v1/{name}:resume", json={}).json() == {}
    changed = client.patch(f"/v1/{name}", params={"updateMask": "displayName,cron"}, json={"display_name": "daily", "cron": "TZ=UTC 0 5 * * *"}).json()
    assert (changed["displayName"], changed["nextRunTime"][10:]) == ("daily", "T05:00:00.000Z")
    assert client.patch(f"/v1/{name}", params={"updateMask": "state"}, json={"state": "PAUSED"}).status_code == 400
    assert client.patch(f"/v1/{name}", params={"updateMask": "cron"}, json={"cron": "x"}).status_code == 400
    due = datetime.fromisoformat(changed["nextRunTime"])
    Scheduler(service).advance(due)
    Scheduler(service).advance(due + timedelta(days=3))
    found = client.get(f"/v1/{name}").json()
    assert (found["state"], found["startedRunCount"]) == ("COMPLETED", "1")
    assert "nextRunTime" not in found
    assert client.get(SCHEDULES, params={"filter": "state=COMPLETED"}).json()["schedules"][0]["name"] == name
    assert client.delete(f"/v1/{name}").json()["done"] is True
    assert client.get(f"/v1/{name}").status_code == 404


def test_a_start_time_on_the_beat_counts(client: TestClient) -> None:
    start = (datetime.now(UTC) + timedelta(days=2)).replace(hour=4, minute=20, second=0, microsecond=0)
    name = create(client, startTime=start.isoformat())
    assert datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"]) == start


def test_data_that_is_gone_is_told_in_the_schedule(client: TestClient, service: Service, still: list[str], tmp_path: Path) -> None:
    overlay = tmp_path / "catalog.toml"
    name = create(client)
    due = datetime.fromisoformat(client.get(f"/v1/{name}").json()["nextRunTime"])
    overlay.unlink()
    Scheduler(service).advance(due)
    found = client.get(f"/v1/{name}").json()
    assert found["lastScheduledRunResponse"]["runResponse"].startswith("Refused: ")
    assert found["startedRunCount"] == "0"
    assert datetime.fromisoformat(found["nextRunTime"]) > due
