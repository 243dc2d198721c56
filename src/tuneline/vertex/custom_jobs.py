"""Vertex AI's custom jobs as values: the request for one, and what a job's state and error mean. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuneline.errors import CapacityError, InfrastructureError, TunelineError, UserError
from tuneline.resolution import JobSettings, Machine
from tuneline.vertex.rest import Json, error_of

LAUNCH_LABEL = "tuneline_launch"
"""Label by which a job is found again when the answer to its creation was lost."""
BOOT_DISK_GB = 600
"""Room for the image, ten checkpoints (2 bytes a parameter) and four training states (12) of 9 billion parameters, the most that a GPU can tune whole."""
LONGEST = "604800s"
"""Seven days, Vertex's own limit unless one is given."""
RESERVATION_KEY = "compute.googleapis.com/reservation-name"

_OPEN = {"QUEUED", "PENDING", "RUNNING", "PAUSED", "UPDATING", "CANCELLING"}
_NO_CAPACITY = re.compile(r"stockout|insufficient resources|resources are insufficient|resource_pool_exhausted|not have enough resources|quota", re.IGNORECASE)
_REPLICA_ENDED = re.compile(r"\breplica\b.*\b(exited|ran out|out-of-memory)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Container:
    """What every replica runs."""

    image: str
    command: Sequence[str]
    arguments: Sequence[str]
    environment: Mapping[str, str]


def request(
    display_name: str, container: Container, machine: Machine, settings: JobSettings, *, replicas: int, labels: Mapping[str, str], output_folder: str
) -> Json:
    """The body of `customJobs.create`. A reservation is used where it is; other settings are left out when they are not set."""
    pool = {
        "machineSpec": _machine(machine, settings.reservation),
        "diskSpec": {"bootDiskSizeGb": BOOT_DISK_GB},
        "containerSpec": {
            "imageUri": container.image,
            "command": list(container.command),
            "args": list(container.arguments),
            "env": [{"name": name, "value": value} for name, value in container.environment.items()],
        },
    }
    # All of a pool are alike, but rank 0 has a pool of its own.
    pools = [{**pool, "replicaCount": "1"}, *([{**pool, "replicaCount": str(replicas - 1)}] if replicas > 1 else [])]
    scheduling = {
        "timeout": LONGEST,
        "restartJobOnWorkerRestart": replicas > 1,  # the others cannot go on without a machine that was lost
        "strategy": settings.scheduling_strategy,
        "maxWaitDuration": settings.max_wait_duration,
    }
    spec = {
        "workerPoolSpecs": pools,
        "scheduling": {name: value for name, value in scheduling.items() if value != ""},
        "serviceAccount": settings.service_account,
        "network": settings.network,
        "baseOutputDirectory": {"outputUriPrefix": output_folder},
    }
    body: Json = {"displayName": display_name, "labels": dict(labels), "jobSpec": {name: value for name, value in spec.items() if value != ""}}
    if settings.encryption_spec_key_name:
        body["encryptionSpec"] = {"kmsKeyName": settings.encryption_spec_key_name}
    return body


def _machine(machine: Machine, reservation: str) -> Json:
    spec: Json = {"machineType": machine.machine_type}
    if machine.accelerator_type:
        spec |= {"acceleratorType": machine.accelerator_type, "acceleratorCount": machine.accelerator_count}
    if reservation and f"/zones/{machine.region}-" in reservation:
        spec["reservationAffinity"] = {"reservationAffinityType": "SPECIFIC_RESERVATION", "key": RESERVATION_KEY, "values": [reservation]}
    return spec


def state_of(job: Json) -> Literal["open", "succeeded", "failed", "stopped"]:
    """Whether a job goes on, or how it has ended. A paused one can be resumed, and so goes on."""
    state = str(job.get("state", "")).removeprefix("JOB_STATE_")
    if state in _OPEN or state in ("", "UNSPECIFIED"):
        return "open"
    return "succeeded" if state == "SUCCEEDED" else "stopped" if state == "CANCELLED" else "failed"


def failure_of(job: Json) -> TunelineError:
    """What is known of why a job failed, was cancelled or has expired, when its step could not tell."""
    name, state, error = job["name"], str(job.get("state", "")), job.get("error") or {}
    message = str(error.get("message", ""))
    if state == "JOB_STATE_CANCELLED":
        return UserError(f"{name} was cancelled.", next_action="Run the pipeline again: it goes on from the newest checkpoint.")
    if state == "JOB_STATE_EXPIRED" and not job.get("startTime"):
        return CapacityError(f"{name} has expired before there was a machine. {message}".rstrip(), next_action="Name other places in tuning_fallbacks.")
    if _REPLICA_ENDED.search(message):  # its code says nothing about whose fault that is
        return InfrastructureError(f"{name}: {message}", next_action="The job's log says why. Tried again, it goes on from the newest checkpoint.")
    if _NO_CAPACITY.search(message):
        return error_of({**error, "status": "RESOURCE_EXHAUSTED"}, name)
    return error_of(error, name) if message else InfrastructureError(f"{name} ended as {state} and told no reason.", next_action="Read the job's log.")


def pages(name: str) -> dict[str, str]:
    """What a job has in Google's console, by `job` and `log`: `projects/P/locations/L/customJobs/N`."""
    _, project, _, region, _, number = name.split("/")
    console = "https://console.cloud.google.com"
    return {
        "job": f"{console}/vertex-ai/locations/{region}/training/{number}?project={project}",
        "log": f"{console}/logs/query;query=resource.type%3D%22ml_job%22%0Aresource.labels.job_id%3D%22{number}%22?project={project}",
    }
