"""A schedule that an orchestrator keeps: when its jobs are due, and how it stands. Vertex AI's and Kubeflow's in one form."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from tuneline.cron import Cron
from tuneline.errors import UserError

ScheduleState: TypeAlias = Literal["ACTIVE", "PAUSED", "COMPLETED", "UNKNOWN"]


@dataclass(frozen=True, kw_only=True)
class Timing:
    """When jobs are due, and how many there may be."""

    cron: str
    max_concurrent_runs: int = 1
    """Two at a time would measure themselves against the same champion."""
    max_runs: int = 0
    """0 for any number."""
    allow_queueing: bool = False
    """Whether a job that is due while as many as allowed are running waits; else it is left out."""
    start_time: str = ""
    end_time: str = ""


@dataclass(frozen=True, kw_only=True)
class RemoteSchedule:
    """What is known of a schedule. Times are RFC 3339; empty: not known, or none."""

    name: str
    """Vertex AI's resource name, or Kubeflow's id."""
    display_name: str
    state: ScheduleState
    cron: str
    next_run_time: str = ""
    last_run: str = ""
    """Name of the newest job, or why there was none."""
    started_runs: int | None = None
    create_time: str = ""

    def to_json(self) -> dict[str, object]:
        """The schedule as `--json` prints it."""
        values = asdict(self)
        return {"schedule": values.pop("name"), **values}


def timing_problems(timing: Timing) -> Iterator[str]:
    """What is wrong, each with the flag that it came from."""
    try:
        Cron.parse(timing.cron)
    except UserError as error:
        yield f"--{error}"
    if timing.max_concurrent_runs < 1:
        yield f"--max-concurrent-runs: found {timing.max_concurrent_runs}; expected 1 or more."
    if timing.max_runs < 0:
        yield f"--max-runs: found {timing.max_runs}; expected 1 or more, or 0 for any number."
    moments = {flag: _moment(text) for flag, text in (("--start-time", timing.start_time), ("--end-time", timing.end_time)) if text}
    for flag, moment in moments.items():
        if moment is None:
            found = timing.start_time if flag == "--start-time" else timing.end_time
            yield f"{flag}: found {found!r}; expected a time with its zone, such as 2026-11-24T03:00:00Z."
    start, end = moments.get("--start-time"), moments.get("--end-time")
    if start and end and end <= start:
        yield f"--end-time: found {timing.end_time}; expected a time after --start-time {timing.start_time}."


def _moment(text: str) -> datetime | None:
    """A time with its zone; nothing when the text is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
