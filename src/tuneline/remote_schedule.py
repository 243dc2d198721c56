"""A schedule that an orchestrator keeps: when its jobs are due, and how it stands. Vertex AI's and Kubeflow's in one form."""

from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

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
