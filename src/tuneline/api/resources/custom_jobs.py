"""`customJobs`: create, get, list, cancel, delete. Each replica of worker pools 0 and 1 is a process of this machine.

A job is a pipeline of one task a replica, so that the queue, the engine and the run's folder do for it what they do for every other job.
"""

import json
import uuid

from fastapi import APIRouter

from tuneline.api import operations
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import Fault, invalid
from tuneline.api.job_queue import JobQueue
from tuneline.api.jobs import JobFolders, Look
from tuneline.api.paging import Listing, page
from tuneline.api.resources.custom_job_messages import RECORDED, ContainerSpec, CustomJob
from tuneline.api.resources.custom_job_rules import problems, replicas
from tuneline.api.resources.custom_job_view import FIELDS, OPEN_STATES, progressed, view
from tuneline.api.resources.pipeline_job_view import ORDER, PRIVATE
from tuneline.api.service import Place, Service
from tuneline.api.store import Body, Store
from tuneline.api.strict_json import StrictRoute
from tuneline.local.reading import read_pipeline
from tuneline.registry import resource_id
from tuneline.storage import GCS_FOLDER
from tuneline.tuning.machines import free_port

KIND = "customJobs"
FOLDERS = {"AIP_MODEL_DIR": "model", "AIP_CHECKPOINT_DIR": "checkpoints", "AIP_TENSORBOARD_LOG_DIR": "logs"}
"""Variables in which Vertex tells the folders below a job's base output directory."""


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])
    one = f"/{KIND}/{{job_id}}"

    @router.post(f"/{KIND}", operation_id=f"{version}_create_custom_job", responses=shows(CustomJob))
    def create(project: str, location: str, job: CustomJob) -> Body:
        return view(create_job(service, Place(project, location), job))

    @router.get(f"/{KIND}", operation_id=f"{version}_list_custom_jobs", responses=lists(CustomJob, KIND))
    def list_jobs(project: str, location: str, listing: Listing) -> Body:
        return page(service.store, KIND, Place(project, location).name, listing, fields=FIELDS, show=view)

    @router.get(one, operation_id=f"{version}_get_custom_job", responses=shows(CustomJob))
    def get(project: str, location: str, job_id: str) -> Body:
        return view(service.store.get(_name(project, location, job_id)))

    @router.post(f"{one}:cancel", operation_id=f"{version}_cancel_custom_job")
    def cancel(project: str, location: str, job_id: str) -> Body:
        service.custom_jobs.cancel(_name(project, location, job_id))
        return {}

    @router.delete(one, operation_id=f"{version}_delete_custom_job", responses=OPERATION)
    def delete(project: str, location: str, job_id: str) -> Body:
        name = _name(project, location, job_id)
        with service.store.transaction():
            if service.store.get(name)["state"] in OPEN_STATES:
                raise Fault("FAILED_PRECONDITION", f"{name} has not ended; cancel it first.")
            service.store.delete(name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))

    return router


def create_job(service: Service, place: Place, job: CustomJob) -> Body:
    """Check the request and queue the job; it is on disk before this returns."""
    found = problems(job, place.location)
    if job.job_spec.tensorboard and not found and service.store.find(job.job_spec.tensorboard) is None:
        found.append(f"jobSpec.tensorboard: {job.job_spec.tensorboard} does not exist here. Create it first: POST .../tensorboards.")
    if found:
        raise invalid(*found)
    job_id = resource_id(place.name, KIND, uuid.uuid4().hex)
    name = f"{place.name}/{KIND}/{job_id}"
    template = pipeline_of(job, place, job_id)
    read_pipeline(template)  # refuses by name what the engine would take for a placeholder
    environment = {GCS_FOLDER: str(service.settings.buckets)}
    order = {"template": template, "parameters": {}, "environment": environment, "max_parallel_tasks": len(replicas(job.job_spec))}
    given = {key: value for key, value in job.to_json().items() if key in RECORDED}
    body = service.store.insert(KIND, {**given, "name": name, "state": "JOB_STATE_QUEUED", PRIVATE: {"run": run_of(name)}, ORDER: order})
    service.custom_jobs.wake()
    return body


def create_queue(store: Store, jobs: JobFolders) -> JobQueue:
    """The queue of custom jobs. It is their own: the task of a pipeline job may wait for one, which must not wait for that pipeline job."""

    def write_down(name: str, look: Look) -> Body:
        return store.update(name, lambda body: progressed(body, look))

    return JobQueue(store, jobs, kind=KIND, prefix="JOB_STATE_", write_down=write_down)


def run_of(name: str) -> str:
    """The run of a custom job."""
    return f"custom-job-{name.rpartition('/')[2]}"


def pipeline_of(job: CustomJob, place: Place, job_id: str) -> Body:
    """The pipeline that runs the job's replicas side by side."""
    pools = job.job_spec.worker_pool_specs
    running = replicas(job.job_spec)
    port = free_port()  # only the first replica listens
    cluster = {f"workerpool{number}": [f"127.0.0.1:{port}" for pool, _ in running if pool == number] for number in dict(running)}
    output = job.job_spec.base_output_directory.output_uri_prefix.rstrip("/")
    shared = {"CLOUD_ML_PROJECT_ID": place.project, "CLOUD_ML_REGION": place.location, "CLOUD_ML_JOB_ID": job_id}
    shared |= {name: f"{output}/{folder}/" for name, folder in FOLDERS.items()} if output else {}
    executors, components, tasks = {}, {}, {}
    for pool, index in running:
        container, name = pools[pool].container_spec, f"workerpool{pool}-{index}"
        spec = {"cluster": cluster, "environment": "cloud", "task": {"type": f"workerpool{pool}", "index": index, "trial": ""}}
        executors[name] = {"container": _container(container, {**shared, "CLUSTER_SPEC": json.dumps(spec)})}
        components[name] = {"executorLabel": name}
        tasks[name] = {"taskInfo": {"name": name}, "componentRef": {"name": name}}
    return {
        "schemaVersion": "2.1.0", "pipelineInfo": {"name": "custom-job"}, "components": components, "deploymentSpec": {"executors": executors},
        "root": {"dag": {"tasks": tasks}},
    }  # fmt: skip


def _container(container: ContainerSpec, environment: dict[str, str]) -> Body:
    variables = {**environment, **{variable.name: variable.value for variable in container.env}}
    env = [{"name": name, "value": value} for name, value in variables.items()]
    return {"image": container.image_uri, "command": [*container.command, *container.args], "env": env}


def _name(project: str, location: str, job_id: str) -> str:
    return f"{Place(project, location).name}/{KIND}/{job_id}"
