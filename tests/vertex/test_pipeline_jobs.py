"""Pipeline jobs: created once whatever happens to the answers, and read as Vertex AI and the tuning service write them."""

from typing import Any

import pytest

from tests.vertex.stub_api import HANG_UP, Asked, StubApi, error
from tuneline.errors import NotFoundError
from tuneline.vertex.job_request import JobRequest
from tuneline.vertex.pipeline_jobs import cancel, console_url, create, list_jobs, look, remote_job, resource_name
from tuneline.vertex.rest import ENDPOINT, OutcomeUnknown, Refused, Vertex

PARENT = "projects/p/locations/us-central1"
NAME = f"{PARENT}/pipelineJobs/j"
BODY = {
    "displayName": "j",
    "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/out", "parameterValues": {"train_steps": 20, "project": "p"}},
    "labels": {"tuneline-version": "0-1-0"},
    "pipelineSpec": {"root": {}},
}
REQUEST = JobRequest(parent=PARENT, job_id="j", body=BODY)
STORED = {**BODY, "name": NAME, "state": "PIPELINE_STATE_PENDING", "runtimeConfig": {**BODY["runtimeConfig"], "failurePolicy": 0}}  # type: ignore[dict-item]
STORED["runtimeConfig"]["parameterValues"] = {"train_steps": 20.0, "project": "p", "seed": 0}  # type: ignore[index]


class Jobs:
    """A service that keeps jobs by their ids."""

    def __init__(self, api: StubApi, answers: list[str]) -> None:
        self.kept: dict[str, Any] = {}
        self._answers = answers
        api.on("POST", "/pipelineJobs", *([self._post] if not answers else [self._lost] * len(answers) + [self._post]))
        api.on("GET", "/pipelineJobs/j", lambda _: (200, self.kept["j"]) if "j" in self.kept else error(404, "NOT_FOUND"))

    def _post(self, asked: Asked) -> tuple[int, Any]:
        [job_id] = asked.query["pipelineJobId"]
        if job_id in self.kept:
            return error(409, "ALREADY_EXISTS")
        self.kept[job_id] = {**asked.body, "name": f"{PARENT}/pipelineJobs/{job_id}", "state": "PIPELINE_STATE_PENDING"}
        return 200, self.kept[job_id]

    def _lost(self, asked: Asked) -> tuple[int, Any]:
        if self._answers.pop(0) == "kept":
            self._post(asked)
        return error(503, "UNAVAILABLE")


def test_a_job_is_created_with_its_id(vertex: Vertex, api: StubApi) -> None:
    jobs = Jobs(api, [])
    assert create(vertex, REQUEST)["name"] == NAME
    assert list(jobs.kept) == ["j"]
    assert api.asked[0].body == BODY


@pytest.mark.parametrize("answers", [["kept"], ["lost"], ["lost", "kept"], ["kept", "lost"]])
def test_answers_that_are_lost_neither_lose_nor_double_the_job(vertex: Vertex, api: StubApi, answers: list[str]) -> None:
    jobs = Jobs(api, answers)
    assert create(vertex, REQUEST)["name"] == NAME
    assert list(jobs.kept) == ["j"]


def test_a_connection_that_ends_after_the_request_is_no_second_job(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/pipelineJobs", HANG_UP, error(409, "ALREADY_EXISTS")).on("GET", "/pipelineJobs/j", (200, STORED))
    assert create(vertex, REQUEST) == STORED


def test_a_job_to_which_vertex_ai_has_added_labels_is_ours(vertex: Vertex, api: StubApi) -> None:
    labelled = {**STORED, "labels": {**BODY["labels"], "vertex-ai-pipelines-run-billing-id": "7"}}  # type: ignore[dict-item]
    api.on("POST", "/pipelineJobs", HANG_UP, error(409, "ALREADY_EXISTS")).on("GET", "/pipelineJobs/j", (200, labelled))
    assert create(vertex, REQUEST) == labelled


def test_a_job_of_another_content_is_not_ours_after_a_lost_answer(vertex: Vertex, api: StubApi) -> None:
    changes: list[dict[str, Any]] = [
        {"displayName": "other"},
        {"labels": {}},
        {"runtimeConfig": {**BODY["runtimeConfig"], "gcsOutputDirectory": "gs://other"}},  # type: ignore[dict-item]
        {"runtimeConfig": {"gcsOutputDirectory": "gs://bucket/out", "parameterValues": {"train_steps": 21, "project": "p"}}},
        {"runtimeConfig": {"gcsOutputDirectory": "gs://bucket/out", "parameterValues": {"train_steps": 20}}},
    ]
    for change in changes:
        api.on("POST", "/pipelineJobs", HANG_UP, error(409, "ALREADY_EXISTS")).on("GET", "/pipelineJobs/j", (200, STORED | change))
        with pytest.raises(Refused, match="exists already"):
            create(vertex, REQUEST)
    assert changes


def test_a_name_that_was_taken_before_is_refused(vertex: Vertex, api: StubApi) -> None:
    jobs = Jobs(api, [])
    create(vertex, REQUEST)
    with pytest.raises(Refused, match=f"^{NAME} exists already") as raised:
        create(vertex, REQUEST)
    assert "--job-id" in raised.value.next_action
    assert list(jobs.kept) == ["j"]


def test_what_is_refused_is_refused_at_once(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/pipelineJobs", error(400, "INVALID_ARGUMENT", "train_steps"))
    with pytest.raises(Refused, match="train_steps"):
        create(vertex, REQUEST)
    assert len(api.asked) == 1


def test_when_no_answer_ever_comes_it_is_said_where_to_look(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/pipelineJobs", error(503, "UNAVAILABLE"))
    with pytest.raises(OutcomeUnknown) as raised:
        create(vertex, REQUEST)
    assert raised.value.exit_code == 13
    assert f"tuneline jobs show {NAME}" in raised.value.next_action
    assert len(api.asked) == 3


def vertex_job(**changes: Any) -> dict[str, Any]:
    """As Vertex AI answers."""
    uploaded = {"output:model_resource_name": "projects/1/locations/us-central1/models/7@1"}
    tasks = [
        {"taskName": "j", "state": "RUNNING", "execution": {"schemaTitle": "system.Run", "metadata": {"output:endpoint_resource_name": "e"}}},
        {"taskName": "tune-model", "state": "CANCEL_PENDING", "startTime": "2026-11-22T05:10:07.123456789Z"},
        {"taskName": "upload-model", "state": "SUCCEEDED", "execution": {"schemaTitle": "system.ContainerExecution", "metadata": uploaded}},
    ]
    return {"name": NAME, "displayName": "d", "state": "PIPELINE_STATE_RUNNING", "createTime": "c", "jobDetail": {"taskDetails": tasks}, **changes}


def test_a_job_says_its_tasks_and_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    job = remote_job(vertex_job())
    assert (job.name, job.state, job.create_time, job.has_ended) == (NAME, "RUNNING", "c", False)
    assert [(task.name, task.state) for task in job.tasks] == [("tune-model", "RUNNING"), ("upload-model", "SUCCEEDED")]
    assert job.model_resource_name == "projects/1/locations/us-central1/models/7@1"
    assert job.endpoint_resource_name == "e"
    assert job.url == "https://console.cloud.google.com/vertex-ai/pipelines/locations/us-central1/runs/j?project=p"


def test_a_job_that_has_just_been_created_says_little() -> None:
    job = remote_job({"name": NAME, "state": "PIPELINE_STATE_SOMETHING_NEW"})
    assert (job.state, job.tasks, job.failure, job.has_ended) == ("UNKNOWN", (), None, False)


WHOLE = {"code": 9, "message": "The DAG failed because some tasks failed. The failed tasks are: [tune-model]."}


@pytest.mark.parametrize(
    ("task_error", "job_error", "step", "cause", "code"),
    [
        ({"code": 9, "message": "The replica workerpool0-0 exited with a non-zero status of 1."}, WHOLE, "tune-model", "The replica", 1),
        ({"code": 9, "message": "The replica workerpool0-0 exited with a non-zero status of 13."}, WHOLE, "tune-model", "The replica", 13),
        ({"code": 8, "message": "quota"}, WHOLE, "tune-model", "quota", 13),
        ({"code": 3, "message": "bad line"}, {"code": 3, "message": "tune-model: bad line\nMend it."}, "tune-model", "bad line", 1),
        (None, {"code": 3, "message": "no template"}, "", "no template", 1),
        (None, {}, "", "The job failed.", 13),
    ],
)
def test_a_failure_is_the_first_task_s_own(task_error: Any, job_error: Any, step: str, cause: str, code: int) -> None:
    tasks = [
        {"taskName": "j", "state": "FAILED", "error": WHOLE, "execution": {"schemaTitle": "system.Run"}},
        {"taskName": "evaluate-model", "state": "FAILED", "endTime": "2026-11-22T06:00:00Z", "error": {"code": 13, "message": "later"}},
        {"taskName": "tune-model", "state": "FAILED", "endTime": "2026-11-22T05:00:00Z", "error": task_error},
    ]
    details = {"taskDetails": tasks if task_error else tasks[:1]}
    failure = remote_job(vertex_job(state="PIPELINE_STATE_FAILED", jobDetail=details, error=job_error)).failure
    assert failure is not None
    assert (failure.step, failure.code) == (step, code)
    assert failure.cause.startswith(cause)
    assert failure.next_action == ("Mend it." if "Mend" in str(job_error) else "")


def test_jobs_are_listed_newest_first_and_without_their_templates(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "/pipelineJobs", (200, {"pipelineJobs": [STORED]}))
    assert [job["name"] for job in list_jobs(vertex, PARENT, condition='state="X"')] == [NAME]
    assert api.asked[0].query["orderBy"] == ["create_time desc"]
    assert api.asked[0].query["filter"] == ['state="X"']
    assert "pipelineSpec" not in api.asked[0].query["readMask"][0]


def test_a_job_is_cancelled_by_a_call_that_may_be_made_twice(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/j:cancel", error(503, "UNAVAILABLE"), (200, {}))
    cancel(vertex, NAME)
    assert api.paths == [f"POST /v1/{NAME}:cancel"] * 2


def test_a_job_that_is_not_there_is_told(vertex: Vertex) -> None:
    with pytest.raises(NotFoundError):
        look(vertex, NAME)


@pytest.mark.parametrize("wrong", ["a/b", "projects/p/locations/l/models/7", f"{NAME}/x", "projects//locations/l/pipelineJobs/j"])
def test_a_name_of_something_else_is_refused(wrong: str) -> None:
    with pytest.raises(NotFoundError, match="expected an id"):
        resource_name(wrong, "p", "r")


def test_an_id_needs_a_place_and_a_resource_name_has_its_own() -> None:
    assert resource_name("j", "p", "us-central1") == NAME
    assert resource_name(NAME, "other", "other") == NAME


def test_a_job_of_another_service_is_looked_at_there(api: StubApi) -> None:
    assert console_url(NAME) == f"{api.address}/v1/{NAME}"
