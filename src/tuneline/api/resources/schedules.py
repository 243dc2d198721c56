"""`schedules`: create, get, list, update, pause, resume, delete. `tuneline.api.scheduler` makes them fire."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter
from pydantic import AfterValidator

from tuneline.api import operations
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import Fault, invalid
from tuneline.api.paging import Listing, page
from tuneline.api.resources import pipeline_jobs
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Int64, Message, Struct, parse
from tuneline.cron import Cron
from tuneline.local.run_record import now
from tuneline.registry import resource_id

KIND = "schedules"
FIELDS = ("name", "displayName", "state", "createTime", "updateTime", "startTime", "endTime", "nextRunTime", "cron")
CHANGEABLE = ("displayName", "cron", "startTime", "endTime", "maxRunCount", "maxConcurrentRunCount", "maxConcurrentActiveRunCount", "allowQueueing")
REQUEST = "createPipelineJobRequest"
_INSTANT = timedelta(milliseconds=1)


def _moment(text: str) -> str:
    """A time as RFC 3339 spells it, in the one spelling that sorts."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(text)
        return stamp(moment)
    except (ValueError, OverflowError):  # in UTC it may lie before the year 1 or after 9999
        raise ValueError(f"found {text!r}; expected a time with its zone, such as 2026-11-24T03:00:00Z.") from None


Moment = Annotated[str, AfterValidator(_moment)]


class CreatePipelineJobRequest(Message):
    """What the schedule sends, each time."""

    parent: str = ""
    pipeline_job: pipeline_jobs.PipelineJob
    pipeline_job_id: str = ""


class Schedule(Message):
    """The schedule as a client sends it. Fields that the service fills in are accepted and not read."""

    display_name: str
    cron: str
    create_pipeline_job_request: CreatePipelineJobRequest
    max_concurrent_run_count: Int64
    """Runs that may be open at a time."""
    max_concurrent_active_run_count: Int64 | None = None
    """The same under a newer name; it wins."""
    max_run_count: Int64 | None = None
    start_time: Moment | None = None
    end_time: Moment | None = None
    allow_queueing: bool = False
    """Whether a run that is due while others are open waits in the queue of jobs; else it is left out."""
    catch_up: bool = False
    name: str = ""
    state: str | int = ""
    started_run_count: Int64 = 0
    create_time: str = ""
    update_time: str = ""
    next_run_time: str = ""
    last_pause_time: str = ""
    last_resume_time: str = ""
    last_scheduled_run_response: Struct = {}


class Resumption(Message):
    """The body of `:resume`."""

    catch_up: bool = False


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])

    @router.post(f"/{KIND}", operation_id=f"{version}_create_schedule", responses=shows(Schedule))
    def create(project: str, location: str, schedule: Schedule) -> Body:
        parent = f"projects/{project}/locations/{location}"
        body = _checked(service, parent, schedule)
        name = f"{parent}/{KIND}/{resource_id(parent, now(), schedule.display_name, str(id(schedule)))}"
        return service.store.insert(KIND, {**body, "name": name, "state": "ACTIVE", "startedRunCount": "0"})

    @router.get(f"/{KIND}", operation_id=f"{version}_list_schedules", responses=lists(Schedule, KIND))
    def list_schedules(project: str, location: str, listing: Listing) -> Body:
        return page(service.store, KIND, f"projects/{project}/locations/{location}", listing, fields=FIELDS)

    @router.get(f"/{KIND}/{{schedule_id}}", operation_id=f"{version}_get_schedule", responses=shows(Schedule))
    def get(project: str, location: str, schedule_id: str) -> Body:
        return service.store.get(f"projects/{project}/locations/{location}/{KIND}/{schedule_id}")

    @router.patch(f"/{KIND}/{{schedule_id}}", operation_id=f"{version}_update_schedule", responses=shows(Schedule))
    def update(project: str, location: str, schedule_id: str, changes: Body, updateMask: str = "", update_mask: str = "") -> Body:  # noqa: N803
        parent = f"projects/{project}/locations/{location}"
        return _update(service, parent, f"{parent}/{KIND}/{schedule_id}", changes, updateMask or update_mask)

    @router.post(f"/{KIND}/{{schedule_id}}:pause", operation_id=f"{version}_pause_schedule")
    def pause(project: str, location: str, schedule_id: str) -> Body:
        def change(body: Body) -> Body:
            _refuse_unless(body, "ACTIVE")
            return {**body, "state": "PAUSED", "lastPauseTime": now()}

        service.store.update(f"projects/{project}/locations/{location}/{KIND}/{schedule_id}", change)
        return {}

    @router.post(f"/{KIND}/{{schedule_id}}:resume", operation_id=f"{version}_resume_schedule")
    def resume(project: str, location: str, schedule_id: str, resumption: Resumption | None = None) -> Body:
        catch_up = resumption is not None and resumption.catch_up

        def change(body: Body) -> Body:
            _refuse_unless(body, "PAUSED")
            following = body["nextRunTime"] if catch_up else next_run_time(body)
            return {**body, "state": "ACTIVE", "lastResumeTime": now(), "catchUp": catch_up, "nextRunTime": following}

        service.store.update(f"projects/{project}/locations/{location}/{KIND}/{schedule_id}", change)
        return {}

    @router.delete(f"/{KIND}/{{schedule_id}}", operation_id=f"{version}_delete_schedule", responses=OPERATION)
    def delete(project: str, location: str, schedule_id: str) -> Body:
        name = f"projects/{project}/locations/{location}/{KIND}/{schedule_id}"
        service.store.delete(name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))

    return router


def stamp(moment: datetime) -> str:
    """A time as it is stored and answered."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def next_run_time(body: Body, after: datetime | None = None) -> str:
    """When the schedule is due next: not before its start, and after `after` (now)."""
    moment, start = after or datetime.now(UTC), body.get("startTime")
    try:
        if start:
            # A start that is itself on the beat counts.
            moment = max(moment, datetime.fromisoformat(start).replace(microsecond=0).astimezone(UTC) - _INSTANT)
        return stamp(Cron.parse(body["cron"]).after(moment))
    except (ValueError, OverflowError):  # no such day any more, or beyond the years that there are
        raise invalid(f"cron: found {body['cron']!r}, which has no time after {start or moment}; expected one that comes. Check startTime.") from None


def _checked(service: Service, parent: str, schedule: Schedule) -> Body:
    """The schedule as it is stored; what each of its runs would be refused for is refused now."""
    problems = []
    if not 1 <= len(schedule.display_name) <= 128:
        problems.append(f"displayName: {len(schedule.display_name)} characters; expected 1 to 128.")
    limits = {"maxConcurrentRunCount": schedule.max_concurrent_run_count, "maxConcurrentActiveRunCount": schedule.max_concurrent_active_run_count}
    limits["maxRunCount"] = schedule.max_run_count
    problems += [f"{name}: found {limit}; expected at least 1." for name, limit in limits.items() if limit is not None and limit < 1]
    if schedule.start_time and schedule.end_time and schedule.end_time <= schedule.start_time:
        problems.append(f"endTime: found {schedule.end_time}; expected a time after startTime.")
    request = schedule.create_pipeline_job_request
    if request.parent not in ("", parent):
        problems.append(f"{REQUEST}.parent: found {request.parent!r}; expected {parent!r}, the schedule's own.")
    if request.pipeline_job_id:
        problems.append(f"{REQUEST}.pipelineJobId: every run needs an id of its own. Leave it out.")
    if problems:
        raise invalid(*problems)
    pipeline_jobs.check_job(service, parent, request.pipeline_job)
    body = schedule.to_json()
    body["startTime"] = schedule.start_time or now()
    body[REQUEST] = {"parent": parent, "pipelineJob": request.pipeline_job.to_json()}
    return {**body, "nextRunTime": next_run_time(body)}


def _update(service: Service, parent: str, name: str, changes: Body, mask: str) -> Body:
    fields = [parse_mask(field) for field in mask.split(",") if field]
    unknown = [field for field in fields if field not in (*CHANGEABLE, REQUEST)]
    if unknown or not fields:
        raise invalid(f"updateMask: found {', '.join(unknown) or 'nothing'}; expected some of {', '.join((*CHANGEABLE, REQUEST))}.")
    found = service.store.get(name)
    own = {key: value for key, value in found.items() if key in (*CHANGEABLE, REQUEST)}
    given = {parse_mask(key): value for key, value in changes.items()}
    own |= {field: given[field] for field in fields if field in given}
    body = _checked(service, parent, parse(Schedule, {key: value for key, value in own.items() if key in given or key not in fields}))
    return service.store.update(name, lambda current: {**{k: v for k, v in current.items() if k not in fields}, **body})


def parse_mask(field: str) -> str:
    """`display_name` or `displayName`."""
    head, *rest = field.strip().split("_")
    return head + "".join(part.title() for part in rest)


def _refuse_unless(body: Body, state: str) -> None:
    if body["state"] != state:
        raise Fault("FAILED_PRECONDITION", f"{body['name']} is {body['state']}; expected {state}.")
