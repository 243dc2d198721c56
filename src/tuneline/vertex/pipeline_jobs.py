"""Pipeline jobs of Vertex AI: create one once, look at it, cancel it, list them, and read what a job says."""

from collections.abc import Iterator, Mapping
from typing import Any

from tuneline.errors import NotFoundError
from tuneline.remote_job import JobState, RemoteFailure, RemoteJob, RemoteTask, TaskState, exit_code_of
from tuneline.vertex.job_request import JobRequest
from tuneline.vertex.rest import Json, OutcomeUnknown, Refused, Vertex, address_of, is_google

LISTED = "name,displayName,state,createTime,startTime,endTime,updateTime,labels,error"
"""What a list shows. Without this mask each job brings its whole template."""
_JOB_STATES: Mapping[str, JobState] = {
    "QUEUED": "QUEUED", "PENDING": "PENDING", "RUNNING": "RUNNING", "CANCELLING": "CANCELLING", "SUCCEEDED": "SUCCEEDED", "FAILED": "FAILED",
    "CANCELLED": "CANCELLED", "PAUSED": "PAUSED",
}  # fmt: skip
_TASK_STATES: Mapping[str, TaskState] = {
    "PENDING": "PENDING", "RUNNING": "RUNNING", "CANCEL_PENDING": "RUNNING", "CANCELLING": "RUNNING", "SUCCEEDED": "SUCCEEDED", "SKIPPED": "SKIPPED",
    "NOT_TRIGGERED": "NOT_TRIGGERED", "FAILED": "FAILED", "CANCELLED": "CANCELLED",
}  # fmt: skip
_UPLOADS = ("upload-model", "upload-llm-model")
_ROOT_SCHEMA = "system.Run"


def create(vertex: Vertex, request: JobRequest) -> Json:
    """Create the job once. Its id makes the call repeatable: after an answer that was lost, a job of this id with our content is ours."""
    was_lost = False
    for seconds in (*vertex.backoff.waits(), None):
        try:
            return vertex.post(request.collection, request.body, params={"pipelineJobId": request.job_id})
        except OutcomeUnknown as error:
            was_lost = True
            if seconds is None:
                raise OutcomeUnknown(*error.problems, next_action=f"The job may run. Look for it: tuneline jobs show {request.name}") from error
            vertex.clock.sleep(seconds)
        except Refused as error:
            if error.status != "ALREADY_EXISTS":
                raise
            found = vertex.get(request.name) if was_lost else {}
            if not _is_of(request, found):
                raise Refused(f"{request.name} exists already.", status=error.status, next_action="Give another --job-id, or none.") from error
            return found
    raise AssertionError("the last try either answers or raises")


def _is_of(request: JobRequest, found: Mapping[str, Any]) -> bool:
    """Whether a job is what the request asked for. Vertex AI adds to what it was sent, labels too, and changes none of these."""
    body = request.body
    sent, kept = body["runtimeConfig"], found.get("runtimeConfig", {})
    values = kept.get("parameterValues", {})
    same = [found.get("displayName") == body["displayName"], body["labels"].items() <= found.get("labels", {}).items()]
    same += [name in values and values[name] == value for name, value in sent["parameterValues"].items()]
    return all(same) and kept.get("gcsOutputDirectory", "") == sent.get("gcsOutputDirectory", "")


def look(vertex: Vertex, name: str) -> RemoteJob:
    """The job at this moment. Raises NotFoundError."""
    return remote_job(vertex.get(name))


def cancel(vertex: Vertex, name: str) -> None:
    """Ask the job to end; one that has ended stays as it is. Raises NotFoundError."""
    vertex.post(f"{name}:cancel", {}, is_repeatable=True)


def list_jobs(vertex: Vertex, parent: str, *, condition: str = "") -> Iterator[Json]:
    """The jobs of a project and region, newest first, without their tasks."""
    query = {"filter": condition} if condition else {}
    return vertex.list(f"{parent}/pipelineJobs", orderBy="create_time desc", readMask=LISTED, **query)


def remote_job(job: Mapping[str, Any]) -> RemoteJob:
    """What a job says."""
    name = str(job["name"])
    state = _JOB_STATES.get(str(job.get("state", "")).removeprefix("PIPELINE_STATE_"), "UNKNOWN")
    details: list[Json] = job.get("jobDetail", {}).get("taskDetails", [])
    return RemoteJob(
        name=name,
        display_name=str(job.get("displayName", "")),
        state=state,
        url=console_url(name),
        create_time=str(job.get("createTime", "")),
        start_time=str(job.get("startTime", "")),
        end_time=str(job.get("endTime", "")),
        tasks=tuple(_task(task) for task in task_details(job)),
        model_resource_name=_output(details, name, "model_resource_name"),
        endpoint_resource_name=_output(details, name, "endpoint_resource_name"),
        failure=_failure(job, details, name) if state == "FAILED" else None,
    )


def task_details(job: Mapping[str, Any]) -> list[Json]:
    """The tasks of a job as Vertex AI has them, without the job itself, which is one of them."""
    details: list[Json] = job.get("jobDetail", {}).get("taskDetails", [])
    return [task for task in details if not _is_root(task, str(job["name"]))]


def console_url(name: str) -> str:
    """Where a person looks at a job: Google's console, or the job's own address at another service."""
    _, project, _, region, _, job_id = name.split("/")
    if not is_google():
        return f"{address_of(region)}/v1/{name}"
    return f"https://console.cloud.google.com/vertex-ai/pipelines/locations/{region}/runs/{job_id}?project={project}"


def resource_name(job: str, project: str, region: str) -> str:
    """The resource name of a job that was given by it or by its id. Raises NotFoundError."""
    if "/" not in job:
        return f"projects/{project}/locations/{region}/pipelineJobs/{job}"
    parts = job.split("/")
    if len(parts) != 6 or parts[0::2] != ["projects", "locations", "pipelineJobs"] or not all(parts):
        raise NotFoundError(f"There is no job {job!r}; expected an id, or projects/PROJECT/locations/REGION/pipelineJobs/ID.")
    return job


def _task(task: Mapping[str, Any]) -> RemoteTask:
    state = _TASK_STATES.get(str(task.get("state")), "PENDING")
    return RemoteTask(name=str(task.get("taskName")), state=state, start_time=str(task.get("startTime", "")), end_time=str(task.get("endTime", "")))


def _is_root(task: Mapping[str, Any], job: str) -> bool:
    return task.get("execution", {}).get("schemaTitle") == _ROOT_SCHEMA or task.get("taskName") == job.rpartition("/")[2]


def _output(details: list[Json], job: str, output: str) -> str:
    """An output of the job, where Google's SDK looks for the model: at the upload task, else at the job itself."""
    uploads = [task for task in details if task.get("taskName") in _UPLOADS]
    roots = [task for task in details if _is_root(task, job)]
    for task in (*uploads, *roots):
        if value := str(task.get("execution", {}).get("metadata", {}).get(f"output:{output}", "")).strip():
            return value
    return ""


def _failure(job: Mapping[str, Any], details: list[Json], name: str) -> RemoteFailure:
    """The first task that failed, or what the job itself says."""
    whole: Json = job.get("error", {})
    message = str(whole.get("message", ""))
    failed = [task for task in details if task.get("state") == "FAILED" and task.get("error") and not _is_root(task, name)]
    if not failed:
        cause, _, advice = message.partition("\n")
        return RemoteFailure(step="", cause=cause or "The job failed.", next_action=advice, code=exit_code_of(int(whole.get("code", 13)), message))
    task = min(failed, key=lambda task: str(task.get("endTime") or "9"))
    error: Json = task["error"]
    cause = str(error.get("message", ""))
    advice = message.partition(cause)[2].strip() if cause else ""
    return RemoteFailure(step=str(task["taskName"]), cause=cause or message, next_action=advice, code=exit_code_of(int(error.get("code", 13)), cause))
