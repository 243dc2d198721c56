"""`models/M/evaluations`: import, get, list. An evaluation belongs to a version of a model and goes with it."""

import uuid
from typing import Any

from fastapi import APIRouter
from pydantic import Field

from tuneline.api.answers import lists, shows
from tuneline.api.faults import invalid, not_found
from tuneline.api.paging import Listing, page
from tuneline.api.resources.model_messages import Name
from tuneline.api.resources.model_versions import EVALUATIONS, all_versions, find_version
from tuneline.api.resources.model_versions import KIND as MODELS
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Message, Struct
from tuneline.registry import resource_id

FIELDS = ("name", "displayName", "metricsSchemaUri", "createTime", "updateTime")
"""What a list may be filtered and ordered by."""


class ModelEvaluation(Message):
    """The evaluation as a client sends it. Its name and times are accepted and not read."""

    display_name: str = Name
    metrics_schema_uri: str = Field(default="", pattern=r"^(gs://.+)?$")
    metrics: Any = None
    metadata: Any = None
    slice_dimensions: list[str] = []
    data_item_schema_uri: str = ""
    annotation_schema_uri: str = ""
    model_explanation: Struct = {}
    explanation_specs: list[Struct] = []
    bias_configs: Struct = {}
    name: str = ""
    create_time: str = ""
    update_time: str = ""


class ImportModelEvaluationRequest(Message):
    """Body of `evaluations:import`."""

    parent: str = ""
    model_evaluation: ModelEvaluation


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix=f"/projects/{{project}}/locations/{{location}}/{MODELS}/{{model_id}}", tags=[EVALUATIONS])

    @router.post(f"/{EVALUATIONS}:import", operation_id=f"{version}_import_model_evaluation", responses=shows(ModelEvaluation))
    def import_evaluation(project: str, location: str, model_id: str, request: ImportModelEvaluationRequest) -> Body:
        given = request.model_evaluation
        if not isinstance(given.metrics, dict) or not given.metrics:
            raise invalid("modelEvaluation.metrics: expected an object with the metrics' values.")
        with service.store.transaction():
            model = find_version(service, _model(project, location, model_id))["name"]
            name = f"{model}/{EVALUATIONS}/{resource_id(model, uuid.uuid4().hex)}"
            kept = {key: value for key, value in given.to_json().items() if key not in ("createTime", "updateTime")}
            return service.store.insert(EVALUATIONS, {**kept, "name": name})

    @router.get(f"/{EVALUATIONS}", operation_id=f"{version}_list_model_evaluations", responses=lists(ModelEvaluation, "modelEvaluations"))
    def list_evaluations(project: str, location: str, model_id: str, listing: Listing) -> Body:
        model = find_version(service, _model(project, location, model_id))["name"]
        return page(service.store, EVALUATIONS, model, listing, fields=FIELDS, key="modelEvaluations")

    @router.get(f"/{EVALUATIONS}/{{evaluation_id}}", operation_id=f"{version}_get_model_evaluation", responses=shows(ModelEvaluation))
    def get(project: str, location: str, model_id: str, evaluation_id: str) -> Body:
        name = _model(project, location, model_id)
        # The Google SDK asks for it by the model's name without the version.
        versions = [find_version(service, name)] if "@" in name else all_versions(service, name)
        found = (service.store.find(f"{body['name']}/{EVALUATIONS}/{evaluation_id}") for body in versions)
        evaluation = next((body for body in found if body is not None), None)
        if evaluation is None:
            raise not_found(f"{name}/{EVALUATIONS}/{evaluation_id}")
        return evaluation

    return router


def _model(project: str, location: str, model_id: str) -> str:
    return f"{Place(project, location).name}/{MODELS}/{model_id}"
