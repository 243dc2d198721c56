"""What a custom job is refused for: what Vertex would refuse, and what is no step of Tuneline. Pure."""

import re
from collections.abc import Iterator

from tuneline.api.resources.custom_job_messages import CustomJob, CustomJobSpec, WorkerPoolSpec
from tuneline.api.resources.machine_shapes import machine_problem
from tuneline.api.resources.step_commands import command_problem, variable_problem
from tuneline.local.run_record import LOCATION
from tuneline.overrides import NETWORK
from tuneline.placement import KEY_NAME, PLACEHOLDER, TENSORBOARD_NAME
from tuneline.vertex.labels import label_problems

MAX_POOLS = 4
MAX_REPLICAS = 8
"""Processes of one job on this machine."""
RANKED_POOLS = 2
"""Worker pools 0 and 1 run steps; 2 and 3 are for reduction servers and evaluators, and are recorded."""
_REGION = re.compile(r"[a-z]+-[a-z]+[0-9]{1,2}")
_DURATION = re.compile(r"[0-9]+(\.[0-9]{1,9})?s")
_ACCOUNT = re.compile(r"[^@\s/]+@[^@\s/]+")


def problems(job: CustomJob, location: str) -> list[str]:
    """Everything that is wrong with a job in this region."""
    found = [*([] if job.display_name else ["displayName is missing."]), *label_problems(job.labels)]
    if location != LOCATION and not _REGION.fullmatch(location):
        found.append(f"location: found {location!r}; expected a region such as us-central1.")
    key = job.encryption_spec.kms_key_name
    match = KEY_NAME.fullmatch(key)
    if key and not match:
        found.append(f"encryptionSpec.kmsKeyName: found {key!r}; expected projects/PROJECT/locations/REGION/keyRings/RING/cryptoKeys/KEY.")
    elif match and match[1] != location:
        found.append(f"encryptionSpec.kmsKeyName: found a key in {match[1]!r}; expected one in {location!r}, where the job is.")
    found += (f"jobSpec.{problem}" for problem in _of_spec(job.job_spec, location))
    pools = job.job_spec.worker_pool_specs
    for number, pool in enumerate(pools):
        found += (f"jobSpec.workerPoolSpecs[{number}].{problem}" for problem in _of_pool(pool, number))
    if len(replicas(job.job_spec)) > MAX_REPLICAS:
        found.append(f"jobSpec.workerPoolSpecs: found {len(replicas(job.job_spec))} replicas; this machine runs at most {MAX_REPLICAS} of a job.")
    return found


def replicas(spec: CustomJobSpec) -> list[tuple[int, int]]:
    """Pool and index of each replica that runs here."""
    return [(number, index) for number, pool in enumerate(spec.worker_pool_specs[:RANKED_POOLS]) for index in range(min(pool.replica_count, MAX_REPLICAS + 1))]


def _of_spec(spec: CustomJobSpec, location: str) -> Iterator[str]:
    if not 1 <= len(spec.worker_pool_specs) <= MAX_POOLS:
        yield f"workerPoolSpecs: found {len(spec.worker_pool_specs)}; expected 1 to {MAX_POOLS}."
    if spec.base_output_directory.output_uri_prefix and not spec.base_output_directory.output_uri_prefix.startswith("gs://"):
        yield f"baseOutputDirectory.outputUriPrefix: found {spec.base_output_directory.output_uri_prefix!r}; expected a gs:// URI."
    for name, duration in (("timeout", spec.scheduling.timeout), ("maxWaitDuration", spec.scheduling.max_wait_duration)):
        if duration and not _DURATION.fullmatch(duration):
            yield f"scheduling.{name}: found {duration!r}; expected seconds such as '3600s'."
    if spec.network and not NETWORK.fullmatch(spec.network):
        yield f"network: found {spec.network!r}; expected projects/NUMBER/global/networks/NAME."
    if spec.service_account and not _ACCOUNT.fullmatch(spec.service_account):
        yield f"serviceAccount: found {spec.service_account!r}; expected an account's email address."
    tensorboard = TENSORBOARD_NAME.fullmatch(spec.tensorboard)
    if spec.tensorboard and not tensorboard:
        yield f"tensorboard: found {spec.tensorboard!r}; expected projects/PROJECT/locations/REGION/tensorboards/NUMBER."
    elif tensorboard and tensorboard[1] != location:
        yield f"tensorboard: found one in {tensorboard[1]!r}; expected one in {location!r}, where the job is."
    if spec.tensorboard and not spec.service_account:
        yield "serviceAccount is missing; a job with a tensorboard needs one."


def _of_pool(pool: WorkerPoolSpec, number: int) -> Iterator[str]:
    if number == 0 and pool.replica_count != 1:
        yield f"replicaCount: found {pool.replica_count}; expected 1. Further replicas are in worker pool 1."
    if pool.replica_count < 0:
        yield f"replicaCount: found {pool.replica_count}; expected at least 0."
    if number > 0 and pool.replica_count == 0:
        return  # a pool that is left out
    if problem := machine_problem(pool.machine_spec):
        yield f"machineSpec.{problem}"
    if pool.python_package_spec:
        yield "pythonPackageSpec: this service installs nothing; give a containerSpec."
        return
    container = pool.container_spec
    if not container.image_uri:
        yield "containerSpec.imageUri is missing."
    if number >= RANKED_POOLS:
        return
    words = [*container.command, *container.args]
    if problem := command_problem(words):
        yield f"containerSpec.command: {problem}"
    if any(PLACEHOLDER in text for text in (*words, *(variable.value for variable in container.env))):
        yield f"containerSpec: found the placeholder {PLACEHOLDER}...; only a pipeline replaces placeholders. Give the value."
    for variable in container.env:
        if problem := variable_problem(variable.name):
            yield f"containerSpec.env: {problem}"
