"""`tuneline jobs`: list, show and cancel jobs of Vertex AI or of a tuning service, and read their logs."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC
from functools import partial
from itertools import islice

from tuneline.cli.following import task_record, wait_for
from tuneline.cli.schedule_timing import zoned
from tuneline.cli.table import print_table
from tuneline.errors import UsageError
from tuneline.local.display import change, clock
from tuneline.local.run_record import seconds_between
from tuneline.remote_job import RemoteJob
from tuneline.vertex import pipeline_jobs
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.decisions import read_decisions
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.job_logs import log_filter, log_url, read_log, require_task, shown
from tuneline.vertex.pipeline_jobs import task_details
from tuneline.vertex.rest import Json, Vertex, is_google

_STATES = ("queued", "pending", "running", "cancelling", "succeeded", "failed", "cancelled", "paused")
_BACKOFF = Backoff(attempts=3)
"""A person waits for the answer, and can ask again."""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(prog="tuneline jobs", description="List, show and cancel jobs of Vertex AI, and read their logs.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    listing = commands.add_parser("list", help="list jobs, newest first", allow_abbrev=False)
    _add_place(listing, is_required=True)
    listing.add_argument("--state", choices=_STATES, help="only jobs in this state")
    listing.add_argument("--label", action="append", default=[], metavar="KEY[=VALUE]", help="only jobs with this label; may be given several times")
    listing.add_argument("--display-name", metavar="TEXT", help="only jobs with this display name")
    listing.add_argument("--since", metavar="TIME", help="only jobs created after this, like 2026-11-22T00:00:00Z")
    listing.add_argument("--filter", metavar="EXPRESSION", default="", help="a filter of Vertex AI's own, in addition")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many; default: 50")
    for name, meaning in (("show", "show one job: tasks, decisions, model"), ("cancel", "cancel a job"), ("logs", "show what a job's tasks have written")):
        command = commands.add_parser(name, help=meaning, allow_abbrev=False)
        command.add_argument("job", metavar="JOB", help="id, or resource name, which brings project and region with it")
        _add_place(command, is_required=False)
        if name == "cancel":
            command.add_argument("--wait", action="store_true", help="end once the job has ended")
        if name == "logs":
            command.add_argument("--task", metavar="TASK", default="", help="only this task")
            command.add_argument("--limit", type=int, default=1000, metavar="N", help="the newest N lines; default: 1000")
    return parser


def _add_place(command: argparse.ArgumentParser, *, is_required: bool) -> None:
    command.add_argument("--project", metavar="PROJECT", required=is_required, help="the jobs' project")
    command.add_argument("--pipeline-region", metavar="REGION", required=is_required, help="the jobs' region")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def main(argv: Sequence[str]) -> int:
    given = parser().parse_args(argv)
    if getattr(given, "limit", 1) < 1:
        raise UsageError(f"--limit is {given.limit}; expected 1 or more.")
    place = {"--project": given.project, "--pipeline-region": given.pipeline_region}
    if empty := [flag for flag, value in place.items() if value == ""]:
        raise UsageError(*(f"{flag} is empty." for flag in empty))
    if given.command == "list":
        return _list(given)
    if "/" not in given.job and not (given.project and given.pipeline_region):
        raise UsageError("--project and --pipeline-region are missing; a job's id alone does not say where it is.")
    name = pipeline_jobs.resource_name(given.job, given.project, given.pipeline_region)
    own = dict(zip(place, (name.split("/")[1], name.split("/")[3]), strict=True))
    if other := [flag for flag, value in place.items() if value not in (None, own[flag])]:
        raise UsageError(*(f"{flag} is {place[flag]!r}, and the job's name says {own[flag]!r}. Leave {flag} out." for flag in other))
    vertex = Vertex(region=name.split("/")[3], backoff=_BACKOFF)
    return {"show": _show, "cancel": _cancel, "logs": _logs}[given.command](given, vertex, name)


def _list(given: argparse.Namespace) -> int:
    vertex = Vertex(region=given.pipeline_region, backoff=_BACKOFF)
    found = pipeline_jobs.list_jobs(vertex, f"projects/{given.project}/locations/{given.pipeline_region}", condition=_condition(given))
    jobs = [pipeline_jobs.remote_job(job) for job in islice(found, given.limit)]
    if given.json:
        print(json.dumps({"jobs": [{key: value for key, value in job.to_json().items() if key != "tasks"} for job in jobs]}))
    elif jobs:
        print_table([("JOB", "STATE", "CREATED", "TOOK", "NAME"), *(_row(job) for job in jobs)])
    else:
        print(f"No such jobs in {given.project}, {given.pipeline_region}.", file=sys.stderr)
    return 0


def _condition(given: argparse.Namespace) -> str:
    """The flags as a filter of Vertex AI. Texts are quoted, so that they stay texts."""
    parts = [f"({given.filter})"] if given.filter else []
    parts += [f"state={json.dumps(f'PIPELINE_STATE_{given.state.upper()}')}"] if given.state else []
    parts += [f"display_name={json.dumps(given.display_name, ensure_ascii=False)}"] if given.display_name else []
    parts += [f"create_time>{json.dumps(_moment(given.since))}"] if given.since else []
    for label in given.label:
        key, sign, value = label.partition("=")
        if not re.fullmatch(r"[\w-]+", key):
            raise UsageError(f"--label {label!r}: expected KEY or KEY=VALUE.")
        parts.append(f"labels.{key}={json.dumps(value, ensure_ascii=False)}" if sign else f"labels.{key}:*")
    return " AND ".join(parts)


def _moment(text: str) -> str:
    """The time in UTC, which everybody reads alike."""
    moment = zoned(text)
    if moment is None:
        raise UsageError(f"--since {text!r}: expected a time with its zone, such as 2026-11-22T00:00:00Z.")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _row(job: RemoteJob) -> tuple[str, ...]:
    took = clock(seconds_between(job.start_time, job.end_time)) if job.start_time else "-"
    return job.name.rpartition("/")[2], job.state, job.create_time[:19].replace("T", " "), took, job.display_name


def _show(given: argparse.Namespace, vertex: Vertex, name: str) -> int:
    body = vertex.get(name)
    job, decided = pipeline_jobs.remote_job(body), read_decisions(body, _apis(vertex))
    if given.json:
        print(json.dumps({**job.to_json(), "resolved": asdict(decided) if decided else None}))
        return 0
    named = {"name": job.display_name, "created": job.create_time, "model": job.model_resource_name, "endpoint": job.endpoint_resource_name, "page": job.url}
    print(f"{job.name}  {job.state}", *(f"{key:<9} {value}" for key, value in named.items() if value), "", sep="\n")
    if decided:
        print(*decided.reasons, "", sep="\n")
    print_table([("TASK", "STATE"), *((task.name, change(task_record(task))) for task in job.tasks)] if job.tasks else [])
    if job.failure:
        print("", *filter(None, [f"{job.failure.step}: {job.failure.cause}".lstrip(": "), job.failure.next_action]), sep="\n")
    return 0


def _cancel(given: argparse.Namespace, vertex: Vertex, name: str) -> int:
    job = pipeline_jobs.look(vertex, name)
    if not job.has_ended:
        pipeline_jobs.cancel(vertex, name)
        left = f"The job has been asked to end. See: tuneline jobs show {name}"
        look = partial(pipeline_jobs.look, vertex, name)
        job = wait_for(look, quiet=given.json, when_left=left) if given.wait else look()
    print(json.dumps(job.to_json()) if given.json else f"{job.name}  {job.state}")
    return 0


def _logs(given: argparse.Namespace, vertex: Vertex, name: str) -> int:
    job = vertex.get(name)
    if not is_google():
        return _local_logs(given, job)
    condition, project = log_filter(job, given.task), name.split("/")[1]
    url = log_url(project, condition)
    print(url, file=sys.stderr)
    lines = read_log(_apis(vertex), job, condition, limit=given.limit)
    if given.json:
        print(json.dumps({"url": url, "filter": condition, "lines": [asdict(line) for line in lines]}))
    else:
        print(*shown(lines), sep="\n", end="\n" if lines else "")
    return 0


def _local_logs(given: argparse.Namespace, job: Json) -> int:
    """A tuning service has its jobs' logs as files, and no API for them."""
    if given.task and task_details(job):
        require_task(job, given.task)
    run = str(job["name"]).rpartition("/")[2]
    where = f"logs/{given.task or 'TASK'}.log in the folder of the run, which `tuneline runs {run}` shows on the machine of the tuning service"
    if given.json:
        print(json.dumps({"url": "", "filter": "", "lines": [], "note": where}))
    else:
        print(where)
    return 0


def _apis(vertex: Vertex) -> GoogleApis:
    return GoogleApis(session=vertex.session, backoff=vertex.backoff, clock=vertex.clock)
