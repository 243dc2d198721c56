"""Points of time series, in a table of their own: there are thousands for each run."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime

from tuneline.api.store import Store

Row = tuple[int, float, float]


def write(store: Store, series: str, points: Iterable[Row]) -> None:
    """Keep points; a step that is written again has the new value."""
    rows = [(series, step, seconds, None if math.isnan(value) else value) for step, seconds, value in points]
    with store.transaction() as connection:
        connection.executemany("INSERT OR REPLACE INTO scalars VALUES (?, ?, ?, ?)", rows)


def read(store: Store, series: str, limit: int) -> list[Row]:
    """The points in the order of their steps, evenly thinned out to at most `limit`."""
    with store.transaction() as connection:
        rows = connection.execute("SELECT step, wall_time, value FROM scalars WHERE series = ? ORDER BY step", (series,)).fetchall()
    rows = [(step, seconds, math.nan if value is None else value) for step, seconds, value in rows]
    stride = max(1, -(-len(rows) // max(1, limit)))
    return rows[::stride]


def forget(store: Store, series: str) -> None:
    """Delete a series' points."""
    with store.transaction() as connection:
        connection.execute("DELETE FROM scalars WHERE series = ?", (series,))


def seconds(wall_time: object) -> float:
    """A time as JSON has it: RFC 3339, seconds, or `{"seconds", "nanos"}`. Raises ValueError, also for one that has no RFC 3339."""
    try:
        found = _seconds(wall_time)
        moment(found)
    except (TypeError, OverflowError, OSError) as error:
        raise ValueError(wall_time) from error
    return found


def _seconds(wall_time: object) -> float:
    if isinstance(wall_time, dict):
        return int(wall_time.get("seconds", 0)) + int(wall_time.get("nanos", 0)) / 1e9
    if isinstance(wall_time, int | float):
        return float(wall_time)
    text = str(wall_time)
    return datetime.fromisoformat(text).timestamp() if text else datetime.now(UTC).timestamp()


def moment(wall_seconds: float) -> str:
    """The time as it is answered."""
    return datetime.fromtimestamp(wall_seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
