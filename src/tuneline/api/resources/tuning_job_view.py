"""A tuning job as clients see it, followed from the pipeline job that does its work.

The stored job is what is answered: it is brought up to date whenever the pipeline job is, in the same transaction, and needs neither
that job nor its run any more once it has ended.
"""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from tuneline.api.jobs import JobFolders, JobState, Look
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.tuning_data_stats import supervised_statistics
from tuneline.api.resources.tuning_job_schedule import Schedule
from tuneline.api.store import Body, Store
from tuneline.errors import TunelineError
from tuneline.local.artifacts import artifact_path
from tuneline.local.run_record import RunRecord, now
from tuneline.modeling.checkpoints import list_checkpoints

LOG = logging.getLogger(__name__)
KIND = "tuningJobs"
OWNER = "tuningJob"
"""Key among the private data of a pipeline job: the tuning job that it works for."""
OPEN_STATES = ("JOB_STATE_QUEUED", "JOB_STATE_PENDING", "JOB_STATE_RUNNING", "JOB_STATE_CANCELLING")
FIELDS = (
    "name", "tunedModelDisplayName", "description", "state", "createTime", "updateTime", "startTime", "endTime", "labels", "baseModel", "serviceAccount",
    "pipelineJob", "outputUri", "tunedModel.model", "tunedModel.endpoint",
)  # fmt: skip
"""What a list may be filtered and ordered by."""


def view(body: Body) -> Body:
    """The resource as it is answered."""
    return {key: value for key, value in body.items() if key != PRIVATE}


def follow(store: Store, pipeline: Body, look: Look) -> None:
    """Bring the tuning job of a pipeline job up to date, if that works for one."""
    name = pipeline[PRIVATE].get(OWNER)
    if name and store.find(name) is not None:
        store.update(name, lambda body: progressed(body, pipeline, look))


def progressed(body: Body, pipeline: Body, look: Look) -> Body | None:
    """The stored job after a look at its run, or nothing when that tells nothing new."""
    changes: Body = {"state": _state(pipeline, look), **{key: pipeline[key] for key in ("startTime", "error") if key in pipeline}}
    if look.state.has_ended:
        changes["endTime"] = pipeline.get("endTime") or now()
    record = look.record
    if record is not None and "tuningDataStats" not in body and (folder := artifact_folder(record, "transform-dataset", "dataset")):
        changes["tuningDataStats"] = {"supervisedTuningDataStats": _made(lambda: _statistics(body, folder), {})}
    if record is not None and look.state == JobState.SUCCEEDED:
        changes["tunedModel"] = _made(lambda: _tuned_model(body, record), _names(record))
    return {**body, **changes} if any(body.get(key) != value for key, value in changes.items()) else None


def checkpoints_folder(jobs: JobFolders, body: Body) -> Path | None:
    """Where the run of a tuning job has its checkpoints."""
    record = jobs.record(body[PRIVATE]["run"])
    return artifact_folder(record, "tune-model", "checkpoints") if record else None


def artifact_folder(record: RunRecord, task: str, output: str) -> Path | None:
    """Where an output artifact of a task lies; nothing before the task has ended well."""
    found = record.tasks.get(task)
    artifact = found.outputs.artifacts.get(output) if found and found.state.has_outputs else None
    return Path(artifact_path(artifact.uri)) if artifact else None


def _state(pipeline: Body, look: Look) -> str:
    if look.state == JobState.RUNNING and not (look.record and look.record.start_time):
        return "JOB_STATE_PENDING"
    return str(pipeline["state"]).replace("PIPELINE_STATE", "JOB_STATE")


def _made(make: Callable[[], Body], otherwise: Body) -> Body:
    """What is told besides the state must never keep a job from ending: a client would wait for ever."""
    try:
        return make()
    except (OSError, ValueError, KeyError, TypeError, TunelineError):
        LOG.exception("a run's files could not be read")
        return otherwise


def _statistics(body: Body, folder: Path) -> Body:
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    return supervised_statistics(statistics, steps=_schedule(body).steps)


def _tuned_model(body: Body, record: RunRecord) -> Body:
    names, planned = _names(record), _schedule(body)
    artifact = artifact_folder(record, "tune-model", "checkpoints")
    steps = [checkpoint.step for checkpoint in list_checkpoints(artifact)] if artifact else []
    checkpoints = [{"checkpointId": str(number), "epoch": str(planned.epoch_of(step)), "step": str(step)} for number, step in enumerate(steps, 1)]
    if checkpoints and "endpoint" in names:
        checkpoints[-1]["endpoint"] = names["endpoint"]
    return {**names, "checkpoints": checkpoints[-1:] if body[PRIVATE]["last_only"] else checkpoints}


def _names(record: RunRecord) -> Body:
    values = record.outputs.parameters
    found = {"model": values.get("model_resource_name"), "endpoint": values.get("endpoint_resource_name")}
    return {key: value for key, value in found.items() if value}


def _schedule(body: Body) -> Schedule:
    return Schedule(**body[PRIVATE]["schedule"])
