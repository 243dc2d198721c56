"""The scalars of a tuning in a Vertex TensorBoard. All names are fixed and a second write of a step replaces the first, so twice is as once."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tuneline.vertex.rest import Json, Refused, Vertex

POINTS_A_REQUEST = 5000
"""The API takes no more."""
_SCALARS = ("total_loss", "fraction_of_correct_next_step_preds", "num_predictions")


@dataclass(frozen=True)
class Point:
    """One value of one series."""

    series: str
    """As in event files: `/train_total_loss`."""
    step: int
    value: float


def points_of(history: str) -> list[Point]:
    """The points in the text of a `history.json`."""
    content = json.loads(history)
    return [
        Point(f"/{split}_{scalar}", int(row["step"]), float(row[scalar]))
        for split in ("train", "eval")
        for row in content[split]
        for scalar in _SCALARS
        if row.get(scalar) is not None
    ]


def resource_of(text: str) -> str:
    """An id as the API takes it: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:128]


def write_history(vertex: Vertex, tensorboard: str, points: Iterable[Point], *, model_id: str, model: str, run: str, moment: str) -> str:
    """Write the points as a run of the experiment that a model has, at one moment as the API wants one (RFC 3339). The run's resource name."""
    experiment_name = _create(vertex, tensorboard, "experiments", "tensorboardExperimentId", model_id, {"displayName": model})
    run_name = _create(vertex, experiment_name, "runs", "tensorboardRunId", resource_of(run), {"displayName": run})
    ordered = sorted(points, key=lambda point: point.series)
    for series in dict.fromkeys(point.series for point in ordered):
        body = {"displayName": series, "valueType": "SCALAR", "pluginName": "scalars"}
        _create(vertex, run_name, "timeSeries", "tensorboardTimeSeriesId", resource_of(series), body)
    for batch in _batches(ordered):
        vertex.post(f"{run_name}:write", {"tensorboardRun": run_name, "timeSeriesData": list(_series(batch, moment))}, is_repeatable=True)
    return run_name


def _create(vertex: Vertex, parent: str, collection: str, parameter: str, own_id: str, body: Mapping[str, str]) -> str:
    """Make a resource of a fixed id unless it is there; its name."""
    try:
        vertex.post(f"{parent}/{collection}", body, params={parameter: own_id}, is_repeatable=True)
    except Refused as refusal:
        if refusal.status != "ALREADY_EXISTS":
            raise
    return f"{parent}/{collection}/{own_id}"


def _batches(points: list[Point]) -> Iterator[list[Point]]:
    for start in range(0, len(points), POINTS_A_REQUEST):
        yield points[start : start + POINTS_A_REQUEST]


def _series(points: Iterable[Point], moment: str) -> Iterator[Json]:
    for series, group in itertools.groupby(points, key=lambda point: point.series):
        values = [{"step": str(point.step), "wallTime": moment, "scalar": {"value": point.value}} for point in group]
        yield {"tensorboardTimeSeriesId": resource_of(series), "valueType": "SCALAR", "values": values}
