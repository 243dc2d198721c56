"""`tuneline runs [RUN]`: the runs of this machine, or the tasks of one run."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from tuneline.cli.table import print_table
from tuneline.local.display import change, clock
from tuneline.local.results import read_result
from tuneline.local.run_folder import RunFolder, default_runs_dir, list_runs
from tuneline.local.run_record import RunRecord, TaskRecord, TaskState, seconds_between
from tuneline.local.task_run import PROGRESS
from tuneline.progress import Progress, read_progress


def parser() -> argparse.ArgumentParser:
    """The flags of `tuneline runs`."""
    parser = argparse.ArgumentParser(prog="tuneline runs", description="List the runs of this machine, or the tasks of one run.", allow_abbrev=False)
    parser.add_argument("run", metavar="RUN", nargs="?", help="a run's name or folder; without it all runs are listed, newest first")
    parser.add_argument("--runs-dir", metavar="DIR", type=Path, help="folder of the runs; default: runs/ in TUNELINE_HOME")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


def main(argv: Sequence[str]) -> int:
    """List."""
    given = parser().parse_args(argv)
    runs_dir = given.runs_dir or default_runs_dir()
    if given.run is not None:
        _show(RunFolder.find(given.run, runs_dir), as_json=given.json)
        return 0
    found = list_runs(runs_dir)
    if given.json:
        print(json.dumps({"runs": [_listed(folder, record) for folder, record in found]}))
    elif not found:
        print(f"No runs in {runs_dir}. Start one: tuneline run tune-large-model --dataset-uri FILE")
    else:
        rows = [("RUN", "STATE", "TEMPLATE", "STARTED", "TOOK", "MODEL"), *(_row(folder, record) for folder, record in found)]
        print_table(rows)
    return 0


def _listed(folder: RunFolder, record: RunRecord) -> dict[str, object]:
    return {
        "run": record.name,
        "state": record.state,
        "template": record.template,
        "createTime": record.create_time,
        "startTime": record.start_time,
        "endTime": record.end_time,
        "model_resource_name": read_result(folder, record).model_resource_name,
        "run_dir": str(folder.path),
    }


def _row(folder: RunFolder, record: RunRecord) -> tuple[str, ...]:
    took = clock(seconds_between(record.start_time, record.end_time))
    model = read_result(folder, record).model_resource_name
    return (record.name, _word(record.state), record.template, record.create_time[:19].replace("T", " "), took, model)


def _show(folder: RunFolder, *, as_json: bool) -> None:
    record = folder.read()
    running = {name: _progress(folder, task) for name, task in record.tasks.items()}
    if as_json:
        tasks = [
            {
                **task.to_json(),
                "seconds": _seconds(task),
                "log": str(folder.log(name)),
                "progress": vars(progress) if (progress := running[name]) is not None else None,
            }
            for name, task in record.tasks.items()
        ]
        print(json.dumps({**record.to_json(), "taskDetails": tasks, "run_dir": str(folder.path)}))
        return
    images = [f"image   {reference} = {identifier}" for reference, identifier in record.containers.images.items()] if record.containers else []
    engine = [f"engine  {record.containers.engine}"] if record.containers else []
    print(f"{record.name}  {_word(record.state)}  {record.template}", f"folder  {folder.path}", *engine, *images, "", sep="\n")
    rows = [("TASK", "STATE", "TRIES", "LOG")]
    for name, task in record.tasks.items():
        progress = running[name]
        state = change(task) if progress is None else f"{progress.activity} {progress.completed}/{progress.total} {progress.message}".rstrip()
        log = folder.log(name)
        rows.append((name, state, str(task.attempts or "-"), str(log) if log.exists() else "-"))
    print_table(rows)
    if record.error is not None:
        print("", *filter(None, [record.error.cause, record.error.next_action]), sep="\n")


def _progress(folder: RunFolder, task: TaskRecord) -> Progress | None:
    attempts = folder.attempts(task.name) if task.state == TaskState.RUNNING else []
    return read_progress(attempts[-1] / PROGRESS) if attempts else None


def _seconds(task: TaskRecord) -> float:
    return round(seconds_between(task.start_time, task.end_time), 3) if task.start_time else 0.0


def _word(state: str) -> str:
    return state.removeprefix("PIPELINE_STATE_")
