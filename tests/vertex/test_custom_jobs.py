"""Custom jobs as values; the requests are read by Google's own library."""

import json

import pytest

from tuneline.errors import CapacityError, InfrastructureError, TunelineError, UserError
from tuneline.resolution import JobSettings, Machine
from tuneline.vertex.custom_jobs import Container, failure_of, pages, request, state_of
from tuneline.vertex.rest import Json

A100 = Machine(region="us-central1", machine_type="a2-ultragpu-8g", accelerator_type="NVIDIA_A100_80GB", accelerator_count=8)
CPU = Machine(region="us-central1", machine_type="e2-standard-16", accelerator_type="", accelerator_count=0)
RESERVATION = "projects/p/zones/us-central1-a/reservations/r"
ALL_SETTINGS = JobSettings(
    replica_count=3, scheduling_strategy="FLEX_START", max_wait_duration="3600s", reservation=RESERVATION, network="projects/1/global/networks/n",
    service_account="tuner@p.iam.gserviceaccount.com", encryption_spec_key_name="projects/p/locations/us-central1/keyRings/r/cryptoKeys/k",
)  # fmt: skip
NAME = "projects/p/locations/us-central1/customJobs/7"


def body(machine: Machine = A100, settings: JobSettings = ALL_SETTINGS, replicas: int = 3) -> Json:
    container = Container(image="image:1", command=["python", "-m", "x"], arguments=["--a", "b c"], environment={"E": "1"})
    return request("tuneline tune-model", container, machine, settings, replicas=replicas, labels={"team": "a"}, output_folder="gs://b/out")


def test_a_request_says_all_that_was_asked_for() -> None:
    pool = {
        "machineSpec": {
            "machineType": "a2-ultragpu-8g", "acceleratorType": "NVIDIA_A100_80GB", "acceleratorCount": 8,
            "reservationAffinity": {
                "reservationAffinityType": "SPECIFIC_RESERVATION", "key": "compute.googleapis.com/reservation-name", "values": [RESERVATION],
            },
        },
        "diskSpec": {"bootDiskSizeGb": 600},
        "containerSpec": {"imageUri": "image:1", "command": ["python", "-m", "x"], "args": ["--a", "b c"], "env": [{"name": "E", "value": "1"}]},
    }  # fmt: skip
    assert body() == {
        "displayName": "tuneline tune-model",
        "labels": {"team": "a"},
        "encryptionSpec": {"kmsKeyName": ALL_SETTINGS.encryption_spec_key_name},
        "jobSpec": {
            "workerPoolSpecs": [{**pool, "replicaCount": "1"}, {**pool, "replicaCount": "2"}],
            "scheduling": {"timeout": "604800s", "restartJobOnWorkerRestart": True, "strategy": "FLEX_START", "maxWaitDuration": "3600s"},
            "serviceAccount": ALL_SETTINGS.service_account,
            "network": ALL_SETTINGS.network,
            "baseOutputDirectory": {"outputUriPrefix": "gs://b/out"},
        },
    }


def test_what_was_not_asked_for_is_not_said() -> None:
    spec = body(CPU, JobSettings(), 1)["jobSpec"]
    assert spec["workerPoolSpecs"][0]["machineSpec"] == {"machineType": "e2-standard-16"}
    assert len(spec["workerPoolSpecs"]) == 1
    assert spec["scheduling"] == {"timeout": "604800s", "restartJobOnWorkerRestart": False}
    assert spec.keys() == {"workerPoolSpecs", "scheduling", "baseOutputDirectory"}
    assert "encryptionSpec" not in body(CPU, JobSettings(), 1)


def test_a_reservation_is_not_asked_for_in_another_region() -> None:
    elsewhere = Machine(region="us-east4", machine_type="a3-highgpu-8g", accelerator_type="NVIDIA_H100_80GB", accelerator_count=8)
    assert "reservationAffinity" not in body(elsewhere)["jobSpec"]["workerPoolSpecs"][0]["machineSpec"]


@pytest.mark.parametrize("strategy", ["", "STANDARD", "SPOT", "FLEX_START"])
@pytest.mark.parametrize("machine", [A100, CPU])
def test_googles_own_library_knows_every_field(machine: Machine, strategy: str) -> None:
    types = pytest.importorskip("google.cloud.aiplatform_v1.types")
    settings = JobSettings(**{**vars(ALL_SETTINGS), "scheduling_strategy": strategy})
    job = types.CustomJob.from_json(json.dumps(body(machine, settings)), ignore_unknown_fields=False)
    assert job.job_spec.worker_pool_specs[1].replica_count == 2
    assert job.job_spec.scheduling.strategy.name == (strategy or "STRATEGY_UNSPECIFIED")
    assert job.job_spec.worker_pool_specs[0].machine_spec.accelerator_type.name == (machine.accelerator_type or "ACCELERATOR_TYPE_UNSPECIFIED")


def test_every_state_of_googles_library_is_open_or_an_end() -> None:
    types = pytest.importorskip("google.cloud.aiplatform_v1.types")
    states = {state.name.removeprefix("JOB_STATE_"): state_of({"state": state.name}) for state in types.JobState}
    assert states == {
        "UNSPECIFIED": "open", "QUEUED": "open", "PENDING": "open", "RUNNING": "open", "PAUSED": "open", "UPDATING": "open", "CANCELLING": "open",
        "SUCCEEDED": "succeeded", "CANCELLED": "stopped", "FAILED": "failed", "EXPIRED": "failed", "PARTIALLY_SUCCEEDED": "failed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("job", "kind", "text"),
    [
        ({"error": {"code": 8, "message": "The following quota metrics exceed quota limits: x"}}, CapacityError, "quota metrics"),
        ({"error": {"code": 13, "message": "Resources are insufficient in region: us-central1."}}, CapacityError, "insufficient"),
        ({"error": {"code": 9, "message": "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS (stockout)"}}, CapacityError, "stockout"),
        ({"error": {"code": 8, "message": "no more"}}, CapacityError, "no more"),
        ({"error": {"code": 3, "message": "The replica workerpool0-0 exited with a non-zero status of 137."}}, InfrastructureError, "137"),
        ({"error": {"code": 8, "message": "Replica workerpool0-0 ran out-of-memory and exited with a non-zero status of 137"}}, InfrastructureError, "memory"),
        ({"error": {"code": 13, "message": "Internal error occurred."}}, InfrastructureError, "INTERNAL"),
        ({"error": {"code": 3, "message": "The image cannot be pulled."}}, UserError, "pulled"),
        ({"error": {"code": 7, "message": "Permission 'x' denied."}}, UserError, "denied"),
        ({}, InfrastructureError, "told no reason"),
        ({"state": "JOB_STATE_PARTIALLY_SUCCEEDED"}, InfrastructureError, "PARTIALLY"),
        ({"state": "JOB_STATE_CANCELLED"}, UserError, "was cancelled"),
        ({"state": "JOB_STATE_EXPIRED"}, CapacityError, "before there was a machine"),
        ({"state": "JOB_STATE_EXPIRED", "startTime": "2026-11-29T00:00:00Z"}, InfrastructureError, "EXPIRED"),
    ],
)
def test_what_a_failed_jobs_error_means(job: Json, kind: type[TunelineError], text: str) -> None:
    found = failure_of({"name": NAME, "state": "JOB_STATE_FAILED", **job})
    assert type(found) is kind or (kind is UserError and isinstance(found, UserError))
    assert NAME in str(found)
    assert text in str(found)


def test_people_find_the_job_and_its_log() -> None:
    assert pages(NAME) == {
        "job": "https://console.cloud.google.com/vertex-ai/locations/us-central1/training/7?project=p",
        "log": "https://console.cloud.google.com/logs/query;query=resource.type%3D%22ml_job%22%0Aresource.labels.job_id%3D%227%22?project=p",
    }
