"""`pipelineJobs`: create, get, list, cancel, delete."""

import functools
import json
import logging
import re
import uuid
from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter
from fastapi.responses import Response

from tuneline.api import operations
from tuneline.api.admission import Admission, admit
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import Fault, invalid
from tuneline.api.job_queue import JobQueue, named
from tuneline.api.jobs import JobFolders, Look
from tuneline.api.paging import Listing, page
from tuneline.api.resources import tuning_job_view
from tuneline.api.resources.pipeline_job_view import FIELDS, KIND, OPEN_STATES, ORDER, PRIVATE, progressed, view
from tuneline.api.service import Service
from tuneline.api.store import Body, Query, Store
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import JsonAnswer, Labels, Message, Struct
from tuneline.catalog_file import read_catalog
from tuneline.data.data_files import local_path
from tuneline.errors import TunelineError
from tuneline.hardware import has_gpu
from tuneline.local.reading import read_pipeline
from tuneline.registry import resource_id
from tuneline.steps import RUN_LABELS
from tuneline.storage import GCS_FOLDER
from tuneline.templates import HOSTED, Template, load, names, template_of
from tuneline.vertex.job_request import template_digest
from tuneline.vertex.labels import label_problems

LOG = logging.getLogger(__name__)
_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")


class EncryptionSpec(Message):
    """A customer-managed key."""

    kms_key_name: str = ""


class RuntimeConfig(Message):
    """What differs from run to run."""

    gcs_output_directory: str = ""
    parameter_values: Struct = {}
    parameters: Struct = {}
    """The form of schema version 2.0.0; refused, because nothing says its types."""
    failure_policy: str | int = ""
    input_artifacts: Struct = {}
    default_runtime: Struct = {}


class PipelineJob(Message):
    """The job as a client sends it. Fields that the service fills in are accepted and not read: clients send back what they got."""

    display_name: str = ""
    pipeline_spec: Struct = {}
    template_uri: str = ""
    labels: Labels = {}
    runtime_config: RuntimeConfig = RuntimeConfig()
    encryption_spec: EncryptionSpec = EncryptionSpec()
    service_account: str = ""
    network: str = ""
    reserved_ip_ranges: list[str] = []
    preflight_validations: bool = False
    psc_interface_config: Struct = {}
    schedule_name: str = ""
    name: str = ""
    state: str | int = ""
    create_time: str = ""
    start_time: str = ""
    end_time: str = ""
    update_time: str = ""
    job_detail: Struct = {}
    error: Struct = {}
    template_metadata: Struct = {}


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])

    @router.post(f"/{KIND}", operation_id=f"{version}_create_pipeline_job", responses=shows(PipelineJob))
    def create(project: str, location: str, job: PipelineJob, pipelineJobId: str = "", pipeline_job_id: str = "") -> Response:  # noqa: N803
        body = create_job(service, f"projects/{project}/locations/{location}", job, pipelineJobId or pipeline_job_id)
        return JsonAnswer(view(service, service.store.get(body["name"])))

    @router.get(f"/{KIND}", operation_id=f"{version}_list_pipeline_jobs", responses=lists(PipelineJob, KIND))
    def list_jobs(project: str, location: str, listing: Listing) -> Response:
        brief = bool(listing.read_mask)

        def show(body: Body) -> Body:
            return view(service, body, is_brief=brief)

        return JsonAnswer(page(service.store, KIND, f"projects/{project}/locations/{location}", listing, fields=FIELDS, show=show, is_whole=not brief))

    @router.get(f"/{KIND}/{{job_id}}", operation_id=f"{version}_get_pipeline_job", responses=shows(PipelineJob))
    def get(project: str, location: str, job_id: str) -> Response:
        return JsonAnswer(view(service, service.store.get(f"projects/{project}/locations/{location}/{KIND}/{job_id}")))

    @router.post(f"/{KIND}/{{job_id}}:cancel", operation_id=f"{version}_cancel_pipeline_job")
    def cancel(project: str, location: str, job_id: str) -> Body:
        service.runner.cancel(f"projects/{project}/locations/{location}/{KIND}/{job_id}")
        return {}

    @router.delete(f"/{KIND}/{{job_id}}", operation_id=f"{version}_delete_pipeline_job", responses=OPERATION)
    def delete(project: str, location: str, job_id: str) -> Body:
        name = f"projects/{project}/locations/{location}/{KIND}/{job_id}"
        body = service.store.get(name)
        if body["state"] in OPEN_STATES:
            raise Fault("FAILED_PRECONDITION", f"{name} has not ended; cancel it first.")
        service.store.delete(name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))

    return router


def create_job(
    service: Service,
    parent: str,
    job: PipelineJob,
    job_id: str = "",
    *,
    private: Body | None = None,
    labels_of_run: Labels | None = None,
    output_uri: str = "",
    only_last_checkpoint: bool = False,
) -> Body:
    """Check the request and queue the job; it is on disk before this returns.

    `private` is kept with the job and not shown. `labels_of_run` are for what the run makes, besides the job's own. `output_uri` and
    `only_last_checkpoint` are told to the job's process.
    """
    template = _template(job)
    admission = _admit(service, template, job, parent)
    job_id = job_id or f"{template.name}-{datetime.now().astimezone():%Y%m%d%H%M%S}-{uuid.uuid4().hex[:6]}"
    if not _ID.fullmatch(job_id):
        raise invalid(f"pipelineJobId: found {job_id!r}; expected up to 128 lower-case letters, digits and dashes, a letter first.")
    name = f"{parent}/{KIND}/{job_id}"
    digest = template_digest(template)
    labels = {**job.labels, **(labels_of_run or {})}
    order = {
        "parameters": admission.run_parameters,
        "environment": {GCS_FOLDER: str(service.settings.buckets), **({RUN_LABELS: json.dumps(labels)} if labels else {})},
        "output_uri": output_uri,
        "only_last_checkpoint": only_last_checkpoint,
    }
    with service.store.transaction():
        if service.store.find(name) is not None:
            raise Fault("ALREADY_EXISTS", f"{name} exists already. Give another pipelineJobId, or none.")
        service.store.keep_document(digest, template.spec)
        body = {
            **job.to_json(),
            "name": name,
            "displayName": job.display_name or job_id,
            "state": "PIPELINE_STATE_QUEUED",
            "runtimeConfig": {**job.runtime_config.to_json(), "parameterValues": dict(admission.parameters)},
            **({"templateMetadata": {"version": f"sha256:{digest}"}} if job.template_uri else {}),
            PRIVATE: {"run": _run_name(service, name), "spec": digest, **(private or {})},
            ORDER: order,
        }
        for field in ("pipelineSpec", "createTime", "updateTime", "startTime", "endTime", "jobDetail", "error"):
            body.pop(field, None)
        body = service.store.insert(KIND, body)
    service.runner.wake()
    for note in admission.notes:
        LOG.info("job=%s %s", name, note)
    return body


def check_job(service: Service, parent: str, job: PipelineJob) -> None:
    """Raise the Fault with which `create_job` would refuse the request."""
    _admit(service, _template(job), job, parent)


def create_queue(store: Store, jobs: JobFolders, *, publish: Callable[[Body, Look], None]) -> JobQueue:
    """The queue of pipeline jobs. `publish` is called with an ended job before it is known to have ended."""

    def write_down(name: str, look: Look) -> Body:
        with store.transaction():
            body = store.update(name, lambda body: progressed(body, look))
            tuning_job_view.follow(store, body, look)
            return body

    return JobQueue(store, jobs, kind=KIND, prefix="PIPELINE_STATE_", write_down=write_down, publish=publish)


def _template(job: PipelineJob) -> Template:
    """The template that the job brings, or names."""
    if job.pipeline_spec:
        return _brought(json.dumps(job.pipeline_spec))
    if job.template_uri in HOSTED or job.template_uri in names():
        return _built_in(job.template_uri)
    found = f"found {job.template_uri!r}" if job.template_uri else "missing, and there is no pipelineSpec"
    raise invalid(f"templateUri: {found}; expected one of {', '.join((*HOSTED, *names()))}. Send any other template as pipelineSpec.")


@functools.lru_cache(maxsize=32)  # clients send the same one again and again, and reading it takes longer than all the rest
def _brought(text: str) -> Template:
    template = template_of(json.loads(text), "pipelineSpec")
    read_pipeline(template.spec)  # refuses by name what the engine does not know
    return template


@functools.cache
def _built_in(reference: str) -> Template:
    return load(reference)


def _admit(service: Service, template: Template, job: PipelineJob, parent: str) -> Admission:
    problems = list(label_problems(job.labels))
    if job.runtime_config.parameters:
        problems.append("runtimeConfig.parameters: the form of schema version 2.0.0; expected runtimeConfig.parameterValues.")
    try:
        admission = _admit_parameters(service, template, job, parent.rpartition("/")[2])
    except Fault as fault:
        raise invalid(*problems, str(fault)) from None
    if problems:
        raise invalid(*problems)
    return admission


def _admit_parameters(service: Service, template: Template, job: PipelineJob, location: str) -> Admission:
    given, key = job.runtime_config.parameter_values, job.encryption_spec.kms_key_name
    overlay = str(given.get("catalog_uri") or service.settings.catalog)
    path = local_path(overlay) if overlay else None
    if path is not None and "\0" not in overlay and path.exists() and not path.is_file():  # a pipe or a device may never end
        raise invalid(f"catalog_uri: {overlay} is no file; expected a TOML file.")
    try:
        catalog = read_catalog(overlay)
        admission = admit(template, given, location=location, catalog=catalog, catalog_uri=service.settings.catalog, encryption_key=key, has_gpu=has_gpu())
    except TunelineError as error:
        raise invalid(*error.problems) from None
    tensorboard = str(admission.parameters.get("tensorboard_resource_id", ""))
    if tensorboard and service.store.find(tensorboard) is None:
        raise invalid(f"tensorboard_resource_id: {tensorboard} does not exist here. Create it first: POST .../tensorboards.")
    return admission


def _run_name(service: Service, name: str) -> str:
    """The job's own id where no other run has it: two projects may use one id, and a deleted job's run stays on disk."""
    job_id = name.rpartition("/")[2]
    number = 1
    while True:
        run = job_id if number == 1 else f"{job_id[:100]}-{resource_id(name, str(number))[:8]}"
        is_queued = bool(service.store.page(Query(kind=KIND, parent="*", condition=named(run)), limit=1))
        if not is_queued and not service.jobs.of(run).exists() and not (service.jobs.runs_dir / run).exists():
            return run
        number += 1
