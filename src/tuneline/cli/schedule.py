"""`tuneline schedule`: create schedules of Vertex AI, of a tuning service or of Kubeflow; list, show, pause, resume and delete them."""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Protocol

from tuneline.cli.table import print_table
from tuneline.errors import UsageError
from tuneline.kubeflow.pipelines import Kubeflow, RunOptions
from tuneline.kubeflow.recurring_runs import RecurringRuns
from tuneline.remote_schedule import RemoteSchedule
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.decisions import read_decisions
from tuneline.vertex.google_apis import GoogleApis
from tuneline.vertex.pipeline_jobs import remote_job
from tuneline.vertex.rest import Vertex
from tuneline.vertex.schedules import Schedules, parent_of

_BACKOFF = Backoff(attempts=3)
"""A person waits for the answer, and can ask again."""
_ACTIONS = {
    "show": "show one schedule: state, next run, last run",
    "pause": "let no run be due until the schedule is resumed; what runs goes on",
    "resume": "let runs be due again",
    "delete": "delete a schedule; runs that it has made stay",
}


class Keeper(Protocol):
    """What keeps schedules: an API and a place in it."""

    def list(self) -> Iterable[RemoteSchedule]: ...
    def look(self, schedule: str, /) -> RemoteSchedule: ...
    def pause(self, schedule: str, /) -> RemoteSchedule: ...
    def resume(self, schedule: str, /, *, catch_up: bool) -> RemoteSchedule: ...
    def delete(self, schedule: str, /) -> None: ...


def parser() -> argparse.ArgumentParser:
    """The flags of all but `create`, whose flags depend on its template."""
    description = "Have a template run again and again, on Vertex AI, a tuning service (TUNELINE_VERTEX_ENDPOINT), or Kubeflow."
    parser = argparse.ArgumentParser(prog="tuneline schedule", description=description, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("create", help="create a schedule: tuneline schedule create --help", add_help=False)
    _add_place(commands.add_parser("list", help="list schedules, newest first", allow_abbrev=False))
    for name, meaning in _ACTIONS.items():
        command = commands.add_parser(name, help=meaning, allow_abbrev=False)
        command.add_argument("schedule", metavar="SCHEDULE", help="id, or resource name, which brings project and region with it")
        _add_place(command)
        if name == "resume":
            command.add_argument("--catch-up", action="store_true", help="make up for the runs that were due meanwhile; not on Kubeflow")
    return parser


def _add_place(command: argparse.ArgumentParser) -> None:
    command.add_argument("--project", metavar="PROJECT", default="", help="the schedules' project")
    command.add_argument("--pipeline-region", metavar="REGION", default="", help="the schedules' region")
    command.add_argument("--kubeflow", metavar="HOST", default="", help="ask this Kubeflow Pipelines instead; token: TUNELINE_KUBEFLOW_TOKEN")
    command.add_argument("--namespace", metavar="NAME", default="", help="with --kubeflow: namespace of the schedules, where there are several users")
    command.add_argument("--json", action="store_true", help="print one JSON object")


def main(argv: Sequence[str]) -> int:
    if argv[:1] == ["create"]:
        from tuneline.cli import schedule_create

        return schedule_create.main(argv[1:])
    given = parser().parse_args(argv)
    keeper = _on_kubeflow(given) if given.kubeflow else _on_vertex(given)
    if given.command == "list":
        return _list(keeper.list(), as_json=given.json)
    if given.command == "delete":
        keeper.delete(given.schedule)
        print(json.dumps({"schedule": given.schedule, "state": "DELETED"}) if given.json else f"{given.schedule} is deleted.")
        return 0
    if given.command == "resume":
        return _show(keeper.resume(given.schedule, catch_up=given.catch_up), as_json=given.json)
    if given.command == "pause":
        return _show(keeper.pause(given.schedule), as_json=given.json)
    schedule = keeper.look(given.schedule)
    return _show(schedule, as_json=given.json, became=_what_became_of(schedule.last_run))


def _on_vertex(given: argparse.Namespace) -> Keeper:
    name = getattr(given, "schedule", "")
    if given.namespace:
        raise UsageError("--namespace is for Kubeflow; give --kubeflow HOST, too.")
    if "/" not in name and not (given.project and given.pipeline_region):
        raise UsageError("--project and --pipeline-region are missing; give them, the resource name of a schedule, or --kubeflow HOST.")
    parent = parent_of(name) if "/" in name else f"projects/{given.project}/locations/{given.pipeline_region}"
    return Schedules(vertex=Vertex(region=parent.split("/")[3], backoff=_BACKOFF), parent=parent)


def _on_kubeflow(given: argparse.Namespace) -> Keeper:
    surplus = [flag for flag, value in (("--project", given.project), ("--pipeline-region", given.pipeline_region)) if value]
    if surplus:
        raise UsageError(*(f"{flag} is for Vertex AI; leave out {flag} or --kubeflow." for flag in surplus))
    return RecurringRuns(kubeflow=Kubeflow(options=RunOptions(host=given.kubeflow, name="", namespace=given.namespace)))


def _list(schedules: Iterable[RemoteSchedule], *, as_json: bool) -> int:
    found = list(schedules)
    if as_json:
        print(json.dumps({"schedules": [schedule.to_json() for schedule in found]}))
    elif found:
        rows = [(_id(schedule.name), schedule.state, schedule.cron, _short(schedule.next_run_time), schedule.display_name) for schedule in found]
        print_table([("SCHEDULE", "STATE", "CRON", "NEXT RUN", "NAME"), *rows])
    else:
        print("There are no schedules.", file=sys.stderr)
    return 0


def _what_became_of(last_run: str) -> list[str]:
    """State of a schedule's last job, and why it did nothing, if so; nothing for what is no job of Vertex AI, or a deleted one."""
    if "/pipelineJobs/" not in last_run:
        return []
    vertex = Vertex(region=last_run.split("/")[3], backoff=_BACKOFF)
    job = vertex.find(last_run)
    if job is None:
        return []
    decided = read_decisions(job, GoogleApis(session=vertex.session, backoff=vertex.backoff, clock=vertex.clock))
    return [remote_job(job).state, *([f"Skipped: {decided.skip_reason}"] if decided and decided.skip_reason else [])]


def _show(schedule: RemoteSchedule, *, as_json: bool, became: Sequence[str] = ()) -> int:
    if as_json:
        print(json.dumps({**schedule.to_json(), **({"last_run_became": list(became)} if became else {})}))
        return 0
    runs = "" if schedule.started_runs is None else str(schedule.started_runs)
    shown = {
        "name": schedule.display_name, "cron": schedule.cron, "created": schedule.create_time,
        "next run": "" if schedule.state == "PAUSED" else schedule.next_run_time, "last run": "  ".join((schedule.last_run, *became)), "runs": runs,
    }  # fmt: skip
    print(f"{schedule.name}  {schedule.state}", *(f"{key:<9} {value}" for key, value in shown.items() if value), sep="\n")
    return 0


def _id(name: str) -> str:
    return name.rpartition("/")[2]


def _short(moment: str) -> str:
    return moment[:19].replace("T", " ") or "-"
