"""What a person sees of a job that runs elsewhere: its tasks while it is waited for, and what came of it."""

import json
import sys
from collections.abc import Callable
from typing import NoReturn

from tuneline.errors import InfrastructureError, TunelineError
from tuneline.local.display import Display, choose_display, clock
from tuneline.local.run_record import TaskRecord, TaskState, seconds_between
from tuneline.remote_job import RemoteJob, RemoteTask, follow


def wait_for(look: Callable[[], RemoteJob], *, quiet: bool, when_left: str) -> RemoteJob:
    """The job once it has ended. `when_left` tells what becomes of it when this is interrupted, or when it can be asked for no more."""
    display = choose_display(quiet=quiet)
    try:
        return _watched(look, display)
    except KeyboardInterrupt:
        display.close()
        print("", when_left, sep="\n", file=sys.stderr)
        raise
    except InfrastructureError as error:
        raise InfrastructureError(*error.problems, next_action=when_left) from error
    finally:
        display.close()


def _watched(look: Callable[[], RemoteJob], display: Display) -> RemoteJob:
    seen: dict[str, str] = {}
    for job in follow(look, said=display.say):
        for task in job.tasks:
            if seen.get(task.name, TaskState.PENDING) != task.state:
                display.changed(task_record(task))
            seen[task.name] = task.state
    return job


def task_record(task: RemoteTask) -> TaskRecord:
    """The task as one of this machine, which is how it is shown."""
    return TaskRecord(
        name=task.name, create_time="", state=TaskState(task.state), start_time=task.start_time, end_time=task.end_time, cached_from="an earlier job"
    )


def tell(job: RemoteJob, *, as_json: bool) -> int:
    """Print what came of a job that has ended; the exit code that it stands for."""
    if as_json:
        print(json.dumps(job.to_json()))
    elif job.exit_code == 0:
        print(*_summary(job), sep="\n")
    if job.exit_code:
        why = [f"{job.failure.step}: {job.failure.cause}" if job.failure.step else job.failure.cause, job.failure.next_action] if job.failure else []
        print("", f"{job.name} {job.state.lower()}.", *filter(None, why), f"See {job.url}", sep="\n", file=sys.stderr)
    return job.exit_code


def _summary(job: RemoteJob) -> list[str]:
    took = f" in {clock(seconds_between(job.start_time, job.end_time))}" if job.start_time and job.end_time else ""
    named = {"model": job.model_resource_name, "endpoint": job.endpoint_resource_name, "page": job.url}
    return [f"{job.name} {job.state.lower()}{took}.", *(f"{name:<9} {value}" for name, value in named.items() if value)]


def fail(error: TunelineError, *, as_json: bool) -> NoReturn:
    """Raise the error; with `--json` it is told on standard output, too."""
    if as_json:
        failure = {"code": error.exit_code, "attribution": error.attribution, "step": "", "cause": str(error), "next_action": error.next_action}
        print(json.dumps({"job": "", "state": "PIPELINE_STATE_FAILED", "error": failure}))
        error.is_told = True
    raise error
