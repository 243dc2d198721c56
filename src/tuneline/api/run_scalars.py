"""The scalars of a finished run, as an experiment of the TensorBoard that the job named."""

import json
import logging
from pathlib import Path

from tuneline.api import scalars
from tuneline.api.faults import Fault
from tuneline.api.jobs import Look
from tuneline.api.resources.tensorboard_messages import Resource
from tuneline.api.resources.tensorboards import create_resource
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.local.artifacts import artifact_path
from tuneline.local.run_record import RunRecord

LOG = logging.getLogger(__name__)
METRICS = ("total_loss", "fraction_of_correct_next_step_preds", "num_predictions")
SPLITS = ("train", "eval")


def publish(service: Service, job: Body, look: Look) -> None:
    """Write what was measured while tuning: `/train_total_loss` and the others. Doing it again changes nothing.

    A job has ended as it has, whether its scalars can be published or not.
    """
    tensorboard = job["runtimeConfig"]["parameterValues"].get("tensorboard_resource_id")
    if tensorboard and look.record is not None:
        try:
            _publish(service, tensorboard, job["name"], look.record)
        except (Fault, OSError, ValueError, KeyError, TypeError):
            LOG.exception("job=%s: its scalars are not published", job["name"])


def _publish(service: Service, tensorboard: str, job: str, record: RunRecord) -> None:
    """The history knows no clock: the points' times are spread evenly over the task's."""
    found = [(task, task.outputs.artifacts["history"]) for task in record.tasks.values() if "history" in task.outputs.artifacts]
    if not found or service.store.find(tensorboard) is None:
        return
    task, artifact = found[0]
    file = Path(artifact_path(artifact.uri))
    if not file.is_file():
        return
    history = json.loads(file.read_text(encoding="utf-8"))
    start, end = scalars.seconds(task.start_time or record.start_time), scalars.seconds(task.end_time or record.end_time)
    job_id = job.rpartition("/")[2]
    experiment = _there(service, tensorboard, "experiments", job_id, Resource(display_name=job_id, source=job))
    run = _there(service, experiment, "runs", "tune-model", Resource(display_name="tune-model"))
    for split in SPLITS:
        for metric in METRICS:
            rows = [row for row in history.get(split, []) if row.get(metric) is not None]
            if rows:
                series = Resource(display_name=f"/{split}_{metric}", value_type="SCALAR", plugin_name="scalars")
                name = _there(service, run, "timeSeries", f"{split}_{metric}", series)
                share = (end - start) / max(1, history.get("steps", 0))
                scalars.write(service.store, name, [(row["step"], start + row["step"] * share, float(row[metric])) for row in rows])


def _there(service: Service, parent: str, collection: str, own_id: str, resource: Resource) -> str:
    try:
        return str(create_resource(service, parent, collection, resource, own_id)["name"])
    except Fault as fault:
        if fault.status != "ALREADY_EXISTS":
            raise
        return f"{parent}/{collection}/{own_id}"
