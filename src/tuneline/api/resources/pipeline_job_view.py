"""A pipeline job as clients see it: the stored resource together with what its run says at this moment."""

from collections.abc import Callable, Mapping

import orjson

from tuneline.api.faults import job_error
from tuneline.api.jobs import JobState, Look
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.local.run_record import RunRecord, TaskRecord, TaskState, now
from tuneline.registry import resource_id

KIND = "pipelineJobs"
PRIVATE = "_tuneline"
"""Key of what the service keeps with a resource and does not show."""
ORDER = "_order"
"""Key of what the job's process will be told; not shown either. With the template, where no other job has the same."""
OPEN_STATES = ("PIPELINE_STATE_QUEUED", "PIPELINE_STATE_PENDING", "PIPELINE_STATE_RUNNING", "PIPELINE_STATE_CANCELLING")
FIELDS = ("name", "displayName", "state", "createTime", "updateTime", "startTime", "endTime", "templateUri", "scheduleName", "labels", "serviceAccount")
"""What a list may be filtered and ordered by."""
BRIEF = ("name", "displayName", "state", "createTime", "updateTime", "startTime", "endTime", "labels", "templateUri", "scheduleName", "error")
_TASK_STATES = {TaskState.PENDING: "PENDING", TaskState.NOT_TRIGGERED: "NOT_TRIGGERED", TaskState.SKIPPED: "SKIPPED"}


def progressed(body: Body, look: Look) -> Body | None:
    """The stored job after a look at it, or nothing when that tells nothing new. An ended job needs its run no more."""
    state = f"PIPELINE_STATE_{look.state}"

    def end() -> Body:
        detail = {"jobDetail": job_detail(body["name"], state, look.record)} if look.record else {}
        return {**({"error": error} if (error := _error(look)) else {}), **detail}

    return after_look(body, look, state, end) if body["state"] in OPEN_STATES else None


def after_look(body: Body, look: Look, state: str, end: Callable[[], Body]) -> Body | None:
    """An open job of any kind after a look at it, or nothing when that tells nothing new; `end` is what it gets when it has ended."""
    changes: Body = {"state": state}
    if look.record is not None and look.record.start_time:
        changes["startTime"] = look.record.start_time
    if look.state.has_ended:
        changes["endTime"] = (look.record.end_time if look.record else "") or body.get("endTime") or now()
        changes |= end()
    return {**body, **changes} if any(body.get(key) != value for key, value in changes.items()) else None


def view(service: Service, body: Body, *, is_brief: bool = False) -> Body:
    """The resource as it is answered. Brief: without template and tasks, as a list with a readMask asks for."""
    if is_brief:
        return {key: body[key] for key in BRIEF if key in body}
    private = body[PRIVATE]
    shown = {key: value for key, value in body.items() if key not in (PRIVATE, ORDER)}
    if "jobDetail" not in shown and (record := service.jobs.record(private["run"])):
        shown["jobDetail"] = job_detail(body["name"], body["state"], record)
    return {**shown, "pipelineSpec": orjson.Fragment(service.store.document(private["spec"]))}


def job_detail(name: str, state: str, record: RunRecord) -> Body:
    """`jobDetail`: the tasks, and the run itself as the task that the Google SDK calls the root."""
    tasks = [_task_detail(name, task) for task in record.tasks.values()]
    outputs = {f"output:{key}": value for key, value in record.outputs.parameters.items()}
    root_state = {"CANCELLING": "CANCEL_PENDING", "QUEUED": "PENDING"}.get(state.removeprefix("PIPELINE_STATE_"), state.removeprefix("PIPELINE_STATE_"))
    root = {
        "taskId": resource_id(name),
        "taskName": name.rpartition("/")[2],
        "state": root_state,
        "createTime": record.create_time,
        **_times(record.start_time, record.end_time),
        "execution": _execution(name, name.rpartition("/")[2], root_state, "system.Run", outputs),
    }
    return {"taskDetails": [*tasks, root]}


def _task_detail(job: str, task: TaskRecord) -> Body:
    state = _TASK_STATES.get(task.state, str(task.state))
    values = {f"output:{key}": value for key, value in task.outputs.parameters.items()}
    artifacts = {
        key: {"artifacts": [{"displayName": key, "uri": item.uri, "schemaTitle": item.schema_title, "metadata": dict(item.metadata)}]}
        for key, item in task.outputs.artifacts.items()
    }
    return {
        "taskId": resource_id(job, task.name),
        "taskName": task.name,
        "parentTaskId": resource_id(job),
        "state": state,
        "createTime": task.create_time,
        **_times(task.start_time, task.end_time),
        **({"execution": _execution(job, task.name, state, "system.ContainerExecution", values)} if task.start_time else {}),
        **({"outputs": artifacts} if artifacts else {}),
        **({"error": job_error("INVALID_ARGUMENT" if task.error.attribution == "user" else "INTERNAL", [task.error.cause])} if task.error else {}),
    }


def _execution(job: str, task: str, state: str, schema: str, metadata: Mapping[str, object]) -> Body:
    store = f"{job.partition('/pipelineJobs/')[0]}/metadataStores/default"
    states = {"SUCCEEDED": "COMPLETE", "SKIPPED": "CACHED", "FAILED": "FAILED", "CANCELLED": "CANCELLED", "RUNNING": "RUNNING"}
    return {
        "name": f"{store}/executions/{resource_id(job, task)}",
        "displayName": task,
        "state": states.get(state, "NEW"),
        "schemaTitle": schema,
        "schemaVersion": "0.0.1",
        "metadata": dict(metadata),
    }


def _times(start: str, end: str) -> Body:
    return {key: value for key, value in (("startTime", start), ("endTime", end)) if value}


_CODES = {"user": "INVALID_ARGUMENT", "infrastructure": "UNAVAILABLE", "capacity": "RESOURCE_EXHAUSTED"}
"""Attribution of a failure -> its name in google.rpc.Code."""


def _error(look: Look) -> Body:
    if look.state == JobState.CANCELLED:
        return {"code": 1, "message": "The job was cancelled."}
    if look.state != JobState.FAILED:
        return {}
    failure = look.record.error if look.record else None
    if failure is None:
        return job_error("INVALID_ARGUMENT", [look.problem or "The job failed before its first task."])
    code = _CODES.get(failure.attribution, "INTERNAL")
    return job_error(code, [text for text in (f"{failure.step}: {failure.cause}" if failure.step else failure.cause, failure.next_action) if text])
