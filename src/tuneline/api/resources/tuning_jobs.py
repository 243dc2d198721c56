"""`tuningJobs`: create, get, list, cancel, rebase. Each job has a pipeline job, which does the work and can be looked at as well."""

import uuid
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter

from tuneline.api import operations
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.paging import Listing, page
from tuneline.api.resources import pipeline_jobs
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.tuning_job_admission import TuningPlan, plan_of
from tuneline.api.resources.tuning_job_messages import FILLED_IN, RebaseTunedModelRequest, TuningJob
from tuneline.api.resources.tuning_job_rebase import rebased
from tuneline.api.resources.tuning_job_view import FIELDS, KIND, OPEN_STATES, OWNER, view
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.registry import resource_id

JOB_LABEL = "google-vertex-llm-tuning-job-id"


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])

    @router.post(f"/{KIND}", operation_id=f"{version}_create_tuning_job", responses=shows(TuningJob))
    def create(project: str, location: str, job: TuningJob) -> Body:
        return view(create_tuning_job(service, Place(project, location), job))

    @router.get(f"/{KIND}", operation_id=f"{version}_list_tuning_jobs", responses=lists(TuningJob, KIND))
    def list_jobs(project: str, location: str, listing: Listing) -> Body:
        return page(service.store, KIND, Place(project, location).name, listing, fields=FIELDS, show=view)

    @router.get(f"/{KIND}/{{job_id}}", operation_id=f"{version}_get_tuning_job", responses=shows(TuningJob))
    def get(project: str, location: str, job_id: str) -> Body:
        return view(service.store.get(f"{Place(project, location).name}/{KIND}/{job_id}"))

    @router.post(f"/{KIND}/{{job_id}}:cancel", operation_id=f"{version}_cancel_tuning_job")
    def cancel(project: str, location: str, job_id: str) -> Body:
        cancel_tuning_job(service, f"{Place(project, location).name}/{KIND}/{job_id}")
        return {}

    @router.post(f"/{KIND}:rebaseTunedModel", operation_id=f"{version}_rebase_tuned_model", responses=OPERATION)
    def rebase(project: str, location: str, request: RebaseTunedModelRequest) -> Body:
        """Tune as an earlier job did, with changes."""
        body = create_tuning_job(service, Place(project, location), rebased(service, request))
        done = operations.done(service.store, version, body["name"], "TuningJob", view(body), "RebaseTunedModelOperationMetadata")
        return operations.answer(done)

    return router


def create_tuning_job(service: Service, place: Place, job: TuningJob) -> Body:
    """Check the request and queue its pipeline job; both are on disk before this returns."""
    plan = plan_of(service, place, job)
    job_id = resource_id(uuid.uuid4().hex)
    name = f"{place.name}/{KIND}/{job_id}"
    order = pipeline_jobs.PipelineJob(
        display_name=plan.display_name,
        template_uri=plan.template,
        labels=job.labels,
        service_account=job.service_account,
        runtime_config=pipeline_jobs.RuntimeConfig(parameter_values=plan.parameters),
    )
    with service.store.transaction():
        pipeline = pipeline_jobs.create_job(
            service, place.name, order, f"tuning-job-{job_id}", private={OWNER: name}, labels_of_run={JOB_LABEL: job_id}, output_uri=job.output_uri,
            only_last_checkpoint=_only_last(job),
        )  # fmt: skip
        private = {"run": pipeline[PRIVATE]["run"], "schedule": asdict(plan.schedule), "last_only": _only_last(job)}
        body = service.store.insert(
            KIND, {**_as_asked(job, plan), "name": name, "state": "JOB_STATE_QUEUED", "pipelineJob": pipeline["name"], PRIVATE: private}
        )
    service.runner.wake()
    return body


def cancel_tuning_job(service: Service, name: str) -> None:
    """Ask the job to end, by its pipeline job; an ended one stays as it is, as on Vertex."""
    body = service.store.get(name)
    if body["state"] in OPEN_STATES:
        service.runner.cancel(body["pipelineJob"])


def _only_last(job: TuningJob) -> bool:
    return job.supervised_tuning_spec is not None and job.supervised_tuning_spec.export_last_checkpoint_only


def _as_asked(job: TuningJob, plan: TuningPlan) -> Body:
    """The request, with what was left to the service filled in."""
    asked: dict[str, Any] = {key: value for key, value in job.to_json().items() if key not in FILLED_IN}
    if job.pre_tuned_model:
        asked["preTunedModel"] = {**asked["preTunedModel"], "baseModel": plan.reference}
    spec = asked["supervisedTuningSpec"]
    decided = {"epochCount": str(plan.schedule.epochs), "batchSize": str(plan.schedule.batch_size)}
    asked["supervisedTuningSpec"] = {**spec, "hyperParameters": {**decided, **spec.get("hyperParameters", {})}}
    return {**asked, "tunedModelDisplayName": plan.display_name}
