"""Logs of a job: which entries are asked for, and how they are told."""

from typing import Any

import pytest

from tests.vertex.stub_api import FakeTime, StubApi
from tuneline.errors import NotFoundError
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.job_logs import log_filter, log_url, read_log, shown

NAME = "projects/p/locations/us-central1/pipelineJobs/j"
PLACE = "projects/1/locations/us-central1/customJobs"
TASKS = [
    {"taskName": "tune-model", "executorDetail": {"containerDetail": {"mainJob": f"{PLACE}/11", "preCachingCheckJob": f"{PLACE}/12"}}},
    {"taskName": "evaluate-model", "executorDetail": {"customJobDetail": {"job": f"{PLACE}/13"}}},
    {"taskName": "upload-model"},
]
JOB: dict[str, Any] = {"name": NAME, "createTime": "2026-11-22T05:10:07Z", "jobDetail": {"taskDetails": TASKS}}


def entry(number: int, **payload: Any) -> dict[str, Any]:
    moment = f"2026-11-22T05:10:{number:02}.123Z"
    return {"timestamp": moment, "severity": "INFO", "resource": {"type": "ml_job", "labels": {"job_id": "11"}}, **payload}


def test_a_job_s_entries_are_those_of_its_tasks_and_its_own() -> None:
    assert log_filter(JOB) == (
        'timestamp>="2026-11-22T05:10:07Z" AND ((resource.type="ml_job" AND resource.labels.job_id=("11" OR "12" OR "13")) OR '
        '(resource.type="aiplatform.googleapis.com/PipelineJob" AND resource.labels.pipeline_job_id="j"))'
    )
    assert log_filter({"name": NAME}).endswith('pipeline_job_id="j"))')


def test_one_task_has_its_own_entries_only() -> None:
    assert log_filter(JOB, "evaluate-model").endswith('AND ((resource.type="ml_job" AND resource.labels.job_id=("13")))')


@pytest.mark.parametrize(("task", "told"), [("tune-modl", "Did you mean 'tune-model'"), ("upload-model", "has not started anything")])
def test_a_task_without_a_log_is_told(task: str, told: str) -> None:
    with pytest.raises(NotFoundError, match=told):
        log_filter(JOB, task)


def test_the_newest_lines_are_told_oldest_first(api: StubApi, time: FakeTime) -> None:
    first = [entry(3, textPayload="three\n"), entry(2, jsonPayload={"message": "two"})]
    second = [entry(1, jsonPayload={"odd": 1}), entry(0, textPayload="too old")]
    api.on("POST", "/entries:list", (200, {"entries": first, "nextPageToken": "t"}), (200, {"entries": second, "nextPageToken": "u"}))
    apis = GoogleApis(addresses={"logging": f"{api.address}/v2"}, clock=time.clock)
    lines = read_log(apis, JOB, "the filter", limit=3)
    assert [line.text for line in lines] == ["{'odd': 1}", "two", "three"]
    assert [asked.body.get("pageToken") for asked in api.asked] == [None, "t"]
    assert api.asked[0].body == {"resourceNames": ["projects/p"], "filter": "the filter", "orderBy": "timestamp desc", "pageSize": 3}
    assert shown(lines)[-1] == "2026-11-22 05:10:03  tune-model            three"


def test_a_log_without_entries_is_empty(api: StubApi, time: FakeTime) -> None:
    api.on("POST", "/entries:list", (200, {}))
    assert read_log(GoogleApis(addresses={"logging": api.address}, clock=time.clock), JOB, "f", limit=10) == []


def test_the_console_s_page_has_the_filter() -> None:
    assert log_url("p", 'a="b"') == "https://console.cloud.google.com/logs/query;query=a%3D%22b%22?project=p"
