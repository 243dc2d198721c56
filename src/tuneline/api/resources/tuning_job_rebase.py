"""`rebaseTunedModel`: tune again what was tuned before, on the model that its base model's name stands for today."""

from collections.abc import Mapping
from typing import Any

from tuneline.api.faults import Fault, invalid
from tuneline.api.job_queue import named
from tuneline.api.resources import pipeline_job_view
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.resources.tuning_job_messages import FILLED_IN, RebaseTunedModelRequest, TuningJob
from tuneline.api.resources.tuning_job_sources import MODEL_NAME, owner_of, registered
from tuneline.api.resources.tuning_job_view import KIND, OWNER
from tuneline.api.service import Service
from tuneline.api.store import Body, Query
from tuneline.api.wire import parse

REF = "tunedModelRef"


def rebased(service: Service, request: RebaseTunedModelRequest) -> TuningJob:
    """The request for the new job: the old one's, the caller's changes over it."""
    ref = request.tuned_model_ref
    names = [name for name in (ref.tuned_model, ref.tuning_job, ref.pipeline_job) if name]
    if len(names) != 1:
        raise invalid(f"{REF}: found {len(names)} names; expected one of tunedModel, tuningJob and pipelineJob.")
    if request.deploy_to_same_endpoint:
        raise invalid("deployToSameEndpoint: found true; each tuned model has an endpoint of its own here. Leave it out.")
    body = _of_model(service, ref.tuned_model) if ref.tuned_model else service.store.get(_checked(names[0], KIND if ref.tuning_job else pipeline_job_view.KIND))
    if not str(body["state"]).endswith("_STATE_SUCCEEDED"):
        raise Fault("FAILED_PRECONDITION", f"{body['name']} is in {body['state']}, so it has no tuned model to rebase.")
    owner = body.get(PRIVATE, {}).get(OWNER)
    if owner:
        body = service.store.get(owner)
    old = _of_tuning_job(body) if f"/{KIND}/" in body["name"] else _of_pipeline_job(body)
    changes = {key: value for key, value in request.tuning_job.to_json().items() if key not in FILLED_IN} if request.tuning_job else {}
    prefix = request.artifact_destination.output_uri_prefix
    return parse(TuningJob, _merged(_merged(old, changes), {"outputUri": prefix} if prefix else {}))


def _checked(name: str, kind: str) -> str:
    if f"/{kind}/" not in name:
        raise invalid(f"{REF}: found {name!r}; expected projects/PROJECT/locations/REGION/{kind}/ID.")
    return name


def _of_model(service: Service, name: str) -> Body:
    """The tuning job or pipeline job that made a registered model."""
    if not MODEL_NAME.fullmatch(name):
        raise invalid(f"{REF}.tunedModel: found {name!r}; expected projects/PROJECT/locations/REGION/models/MODEL, with @VERSION or without.")
    version = registered(service, name)
    query = Query(kind=pipeline_job_view.KIND, parent="*", condition=named(version.registration.pipeline_job_name))
    found = owner_of(service, version.resource_name) or next(iter(service.store.page(query, limit=1)), None)
    if found is None:
        raise Fault("FAILED_PRECONDITION", f"{name} was not tuned by a job of this service, so its data are not known. Create a tuning job instead.")
    return found


def _of_tuning_job(body: Body) -> dict[str, Any]:
    """What was asked for, without the folder that the old checkpoints lie in. A model that was tuned further begins anew."""
    left_out = FILLED_IN | {PRIVATE, "outputUri", "preTunedModel"}
    kept = {key: value for key, value in body.items() if key not in left_out}
    return {**kept, "baseModel": body.get("baseModel") or body["preTunedModel"]["baseModel"]}


def _of_pipeline_job(body: Body) -> dict[str, Any]:
    """The tuning job that a run of a tuning template amounts to. It counted steps; epochs are recommended anew."""
    values = body["runtimeConfig"]["parameterValues"]
    if not {"large_model_reference", "dataset_uri"} <= values.keys():
        raise Fault("FAILED_PRECONDITION", f"{body['name']} ran no tuning template, so it has no tuned model to rebase.")
    spec = {"trainingDatasetUri": values["dataset_uri"], "validationDatasetUri": values["evaluation_data_uri"]}
    rate = {"hyperParameters": {"learningRateMultiplier": values["learning_rate_multiplier"]}}
    return {
        "baseModel": values["large_model_reference"],
        "tunedModelDisplayName": values["model_display_name"],
        "labels": body.get("labels", {}),
        "supervisedTuningSpec": {**spec, **rate},
        **({"customBaseModel": values["base_model_uri"]} if values["base_model_uri"] else {}),
    }


def _merged(old: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `old`, object by object."""
    nested = {key: _merged(old[key], value) for key, value in changes.items() if isinstance(value, dict) and isinstance(old.get(key), dict)}
    return {**old, **changes, **nested}
