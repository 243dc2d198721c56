"""When the jobs of a schedule are due: what the command line's flags for it may not say. Pure."""

from collections.abc import Iterator
from datetime import datetime

from tuneline.cron import Cron
from tuneline.errors import UserError
from tuneline.remote_schedule import Timing

MOST = 2**31 - 1
"""Runs that anybody can count."""


def timing_problems(timing: Timing, now: datetime) -> Iterator[str]:
    """What is wrong, each with the flag that it came from."""
    cron = None
    try:
        cron = Cron.parse(timing.cron)
    except UserError as error:
        yield f"--{error}"
    if not 1 <= timing.max_concurrent_runs <= MOST:
        yield f"--max-concurrent-runs: found {timing.max_concurrent_runs}; expected 1 to {MOST}."
    if not 0 <= timing.max_runs <= MOST:
        yield f"--max-runs: found {timing.max_runs}; expected 1 to {MOST}, or 0 for any number."
    moments = {flag: zoned(text) for flag, text in (("--start-time", timing.start_time), ("--end-time", timing.end_time)) if text}
    for flag, moment in moments.items():
        if moment is None:
            found = timing.start_time if flag == "--start-time" else timing.end_time
            yield f"{flag}: found {found!r}; expected a time with its zone, such as 2026-11-24T03:00:00Z."
    start, end = moments.get("--start-time"), moments.get("--end-time")
    if start and end and end <= start:
        yield f"--end-time: found {timing.end_time}; expected a time after --start-time {timing.start_time}."
    elif end and cron and cron.after(max(start or now, now)) > end:
        yield f"--end-time: found {timing.end_time}; no run would be due before."


def zoned(text: str) -> datetime | None:
    """A time with its zone; nothing when the text is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None
