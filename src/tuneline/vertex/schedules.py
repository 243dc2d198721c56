"""Schedules of Vertex AI, or of a tuning service: what is sent to make one, what it says, and how it is paused, resumed and deleted."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuneline.errors import NotFoundError
from tuneline.remote_schedule import RemoteSchedule, ScheduleState, Timing
from tuneline.vertex.job_request import JobRequest
from tuneline.vertex.rest import Json, OutcomeUnknown, Refused, Vertex

_STATES: Mapping[str, ScheduleState] = {"ACTIVE": "ACTIVE", "PAUSED": "PAUSED", "COMPLETED": "COMPLETED"}
_OF_ONE_JOB = ("displayName", "templateUri")
"""Fields of a job that a schedule does not take: each job gets a name of its own, and the template with the request."""


def schedule_body(display_name: str, timing: Timing, job: JobRequest) -> Json:
    """The schedule as the API takes it. 64-bit numbers are texts."""
    return {
        "displayName": display_name,
        "cron": timing.cron,
        "maxConcurrentRunCount": str(timing.max_concurrent_runs),
        **({"maxRunCount": str(timing.max_runs)} if timing.max_runs else {}),
        "allowQueueing": timing.allow_queueing,
        **({"startTime": timing.start_time} if timing.start_time else {}),
        **({"endTime": timing.end_time} if timing.end_time else {}),
        "createPipelineJobRequest": {
            "parent": job.parent,
            "pipelineJob": {key: value for key, value in job.body.items() if key not in _OF_ONE_JOB},
        },
    }


@dataclass(frozen=True, kw_only=True)
class Schedules:
    """Those of one project and region. A schedule is given by its id or its resource name."""

    vertex: Vertex
    parent: str

    def create(self, body: Json) -> RemoteSchedule:
        """Make a schedule. The API gives it its id, so the call is made once."""
        try:
            return remote_schedule(self.vertex.post(f"{self.parent}/schedules", body))
        except OutcomeUnknown as error:
            _, project, _, region = self.parent.split("/")
            look = f"tuneline schedule list --project {project} --pipeline-region {region}"
            raise OutcomeUnknown(*error.problems, next_action=f"The schedule may have been made. Look for it: {look}") from error

    def look(self, schedule: str) -> RemoteSchedule:
        """The schedule at this moment. Raises NotFoundError."""
        return remote_schedule(self.vertex.get(self._name(schedule)))

    def list(self) -> Iterator[RemoteSchedule]:
        """All, newest first."""
        return map(remote_schedule, self.vertex.list(f"{self.parent}/schedules", orderBy="create_time desc"))

    def pause(self, schedule: str) -> RemoteSchedule:
        """No job is due until it is resumed; a job that runs goes on. Pausing twice is as once."""
        return self._switch(schedule, "pause", {}, wanted="PAUSED")

    def resume(self, schedule: str, *, catch_up: bool = False) -> RemoteSchedule:
        """Jobs are due again; with `catch_up` also those that were due meanwhile."""
        return self._switch(schedule, "resume", {"catchUp": True} if catch_up else {}, wanted="ACTIVE")

    def delete(self, schedule: str) -> None:
        """Delete the schedule. Jobs that it has made stay. Raises NotFoundError."""
        self.vertex.wait(self.vertex.delete(self._name(schedule)))

    def _switch(self, schedule: str, verb: str, body: Json, *, wanted: ScheduleState) -> RemoteSchedule:
        """A refusal of what is so already, perhaps by an earlier call whose answer was lost, is none."""
        try:
            self.vertex.post(f"{self._name(schedule)}:{verb}", body, is_repeatable=True)
        except Refused as refusal:
            if refusal.status != "FAILED_PRECONDITION" or self.look(schedule).state != wanted:
                raise
        return self.look(schedule)

    def _name(self, schedule: str) -> str:
        if "/" not in schedule:
            return f"{self.parent}/schedules/{schedule}"
        parent_of(schedule)
        return schedule


def parent_of(schedule: str) -> str:
    """Project and region of a schedule's resource name. Raises NotFoundError."""
    parts = schedule.split("/")
    if len(parts) != 6 or parts[0::2] != ["projects", "locations", "schedules"] or not all(parts):
        raise NotFoundError(f"There is no schedule {schedule!r}; expected an id, or projects/PROJECT/locations/REGION/schedules/ID.")
    return "/".join(parts[:4])


def remote_schedule(body: Mapping[str, Any]) -> RemoteSchedule:
    """What a schedule says."""
    last = body.get("lastScheduledRunResponse", {})
    return RemoteSchedule(
        name=str(body["name"]),
        display_name=str(body.get("displayName", "")),
        state=_STATES.get(str(body.get("state")), "UNKNOWN"),
        cron=str(body.get("cron", "")),
        next_run_time=str(body.get("nextRunTime", "")),
        last_run=str(last.get("runResponse", "")),
        started_runs=int(body.get("startedRunCount", 0)),
        create_time=str(body.get("createTime", "")),
    )
