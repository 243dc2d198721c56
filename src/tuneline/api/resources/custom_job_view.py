"""A custom job's states, as its run says them, and its error as a google.rpc.Status."""

from tuneline.api.faults import job_error
from tuneline.api.jobs import JobState, Look
from tuneline.api.resources.pipeline_job_view import ORDER, PRIVATE, after_look
from tuneline.api.store import Body

OPEN_STATES = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING")
FIELDS = ("name", "displayName", "state", "createTime", "updateTime", "startTime", "endTime", "labels")
"""What a list may be filtered and ordered by."""
CODES = {1: "INVALID_ARGUMENT", 2: "INVALID_ARGUMENT", 13: "UNAVAILABLE", 75: "ABORTED"}
"""What a step's exit codes mean; any other is INTERNAL."""


def view(body: Body) -> Body:
    """The resource as it is answered."""
    return {key: value for key, value in body.items() if key not in (ORDER, PRIVATE)}


def progressed(body: Body, look: Look) -> Body | None:
    """The stored job after a look at it, or nothing when that tells nothing new."""
    if body["state"] not in OPEN_STATES:
        return None
    return after_look(body, look, f"JOB_STATE_{look.state}", lambda: {"error": error} if (error := _error(look)) else {})


def _error(look: Look) -> Body:
    match look.state:
        case JobState.CANCELLED:
            return job_error("CANCELLED", ["The job was cancelled."])
        case JobState.FAILED if look.record is not None and look.record.error is not None:
            failure = look.record.error
            replica = next((task.name for task in look.record.tasks.values() if task.error == failure), failure.step)
            told = f"The replica {replica} exited with {failure.code}: {failure.cause}"
            return job_error(CODES.get(failure.code, "INTERNAL"), [text for text in (told, failure.next_action) if text])
        case JobState.FAILED:
            return job_error("INTERNAL", [look.problem or "The job failed before its first replica."])
        case _:
            return {}
