"""A pipeline job that runs elsewhere, as its orchestrator tells it: states, tasks, what came of it, whose fault a failure is."""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from tuneline.errors import InfrastructureError

JobState = Literal["QUEUED", "PENDING", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED", "PAUSED", "UNKNOWN"]
TaskState = Literal["PENDING", "RUNNING", "SUCCEEDED", "SKIPPED", "NOT_TRIGGERED", "FAILED", "CANCELLED"]
POLL_SECONDS = 5.0
PATIENCE_SECONDS = 900.0
"""How long a job that cannot be asked for is waited for: it goes on, whatever has come between."""
_ENDED = ("SUCCEEDED", "FAILED", "CANCELLED", "PAUSED")
_STEP_CODES = (1, 2, 13, 70, 75)
"""Exit codes that a step of ours gives on purpose; any other means that it was killed."""
_USER_CODES = (3, 5, 6, 7, 9, 11, 12, 16)
"""Numbers of google.rpc.Code that the same call would meet again."""
_EXIT_STATUS = re.compile(r"non-zero status of (\d+)|exit (?:code|status):? (\d+)")


@dataclass(frozen=True, kw_only=True)
class RemoteTask:
    """One task. Times are as the orchestrator writes them, empty where it has none."""

    name: str
    state: TaskState
    start_time: str = ""
    end_time: str = ""


@dataclass(frozen=True, kw_only=True)
class RemoteFailure:
    """Why a job did not succeed."""

    step: str
    cause: str
    next_action: str
    code: int
    """Exit code, as in `tuneline.errors`."""

    @property
    def attribution(self) -> str:
        """Whose fault it is, as in `tuneline.errors`."""
        return {1: "user", 2: "user", 70: "internal"}.get(self.code, "infrastructure")


@dataclass(frozen=True, kw_only=True)
class RemoteJob:
    """One job at one moment."""

    name: str
    """Resource name, or id."""
    display_name: str
    state: JobState
    url: str
    """Where a person looks at it."""
    create_time: str = ""
    start_time: str = ""
    end_time: str = ""
    tasks: tuple[RemoteTask, ...] = ()
    model_resource_name: str = ""
    endpoint_resource_name: str = ""
    failure: RemoteFailure | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in _ENDED

    @property
    def exit_code(self) -> int:
        """0, the code of the task that failed, or 75 for a job that was stopped from outside."""
        if self.failure is not None:
            return self.failure.code
        return {"FAILED": 13, "CANCELLED": 75, "PAUSED": 75}.get(self.state, 0)

    def to_json(self) -> dict[str, object]:
        """The keys of `tuneline run --json` where they mean the same."""
        failure = {"attribution": self.failure.attribution, **asdict(self.failure)} if self.failure else None
        return {
            "job": self.name,
            "display_name": self.display_name,
            "state": f"PIPELINE_STATE_{self.state}",
            "url": self.url,
            "create_time": self.create_time,
            "start_time": self.start_time,
            "end_time": self.end_time,
            "model_resource_name": self.model_resource_name,
            "endpoint_resource_name": self.endpoint_resource_name,
            "tasks": [asdict(task) for task in self.tasks],
            **({"error": failure} if failure else {}),
        }


def follow(
    look: Callable[[], RemoteJob],
    *,
    said: Callable[[str], None] = lambda _: None,
    now: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[RemoteJob]:
    """Look at a job again and again until it has ended; the last look is the end. `said` hears of looks that failed."""
    seen = now()
    while True:
        try:
            job = look()
        except InfrastructureError as error:
            if now() - seen > PATIENCE_SECONDS:
                raise
            said(f"no answer, asking again: {error}")
        else:
            seen = now()
            yield job
            if job.has_ended:
                return
        sleep(POLL_SECONDS)


def exit_code_of(code: int, message: str) -> int:
    """The exit code that a failed task's google.rpc.Status tells: its step's own when the message has it, else by the status's number."""
    if status := _EXIT_STATUS.search(message):
        found = int(status[1] or status[2])
        return found if found in _STEP_CODES else 13
    return 1 if code in _USER_CODES else 13
