"""The model garden's `:deploy`, which makes a model and an endpoint out of a folder of weights in one go, and `:recommendSpec`."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from fastapi import APIRouter
from pydantic import AliasChoices, Field

from tuneline.api import operations
from tuneline.api.answers import OPERATION
from tuneline.api.faults import Fault, invalid
from tuneline.api.resources import endpoint_deployments, endpoints, model_uploads, publisher_models
from tuneline.api.resources.endpoint_messages import DedicatedResources, DeployedModel, DeployModelRequest, Endpoint
from tuneline.api.resources.model_messages import MAX_NAME, Model, Name, UploadModelRequest
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.api.wire import Labels, Message, Struct, parse
from tuneline.data.base_model import find_here
from tuneline.hardware import has_gpu
from tuneline.registry import home, models

_PUBLISHED = re.compile(r"publishers/([^/]+)/models/([^/]+)")


class CustomModel(Message):
    """A folder of weights."""

    gcs_uri: str = ""


class ModelSettings(Message):
    """What becomes of the model."""

    accept_eula: bool = False
    hugging_face_access_token: str = ""
    """Not read, and not recorded."""
    hugging_face_cache_enabled: bool = False
    model_display_name: str = Name
    model_user_id: str = ""
    container_spec: Struct = {}


class EndpointSettings(Message):
    """What becomes of the endpoint."""

    endpoint_display_name: str = Name
    endpoint_user_id: str = ""
    dedicated_endpoint_enabled: bool = False
    dedicated_endpoint_disabled: bool = False
    private_service_connect_config: Struct = {}
    labels: Labels = {}


class DeploySettings(Message):
    """Machines, which are recorded."""

    dedicated_resources: DedicatedResources | None = None
    fast_tryout_enabled: bool = False
    system_labels: Labels = {}


class DeployRequest(Message):
    """Body of `:deploy`."""

    destination: str = ""
    publisher_model_name: str = ""
    hugging_face_model_id: str = ""
    custom_model: CustomModel | None = None
    # pydantic keeps the name `model_config` for itself.
    model_settings: ModelSettings = Field(default=ModelSettings(), alias="modelConfig", validation_alias=AliasChoices("modelConfig", "model_config"))
    endpoint_config: EndpointSettings = EndpointSettings()
    deploy_config: DeploySettings = DeploySettings()


class RecommendSpecRequest(Message):
    """Body of `:recommendSpec`."""

    parent: str = ""
    gcs_uri: str
    check_machine_availability: bool = False
    check_user_quota: bool = False


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, tags=["modelGarden"])

    @router.post("/projects/{project}/locations/{location}:deploy", operation_id=f"{version}_deploy_custom_model", responses=OPERATION)
    def deploy(project: str, location: str, request: DeployRequest) -> Body:
        """Register a folder of weights, make an endpoint and deploy it there."""
        place = Place(project, location)
        work = prepare(service, place, request)
        return operations.answer(operations.start(service.store, version, place.name, "DeployResponse", work, "DeployOperationMetadata"))

    @router.post("/projects/{project}/locations/{location}:recommendSpec", operation_id=f"{version}_recommend_spec")
    def recommend_spec(project: str, location: str, request: RecommendSpecRequest) -> Body:  # noqa: ARG001 (it is in the path)
        """The machine that can serve a folder of weights."""
        return recommendations(service, location, request.gcs_uri)

    return router


def prepare(service: Service, place: Place, request: DeployRequest) -> Callable[[], Body]:
    """Check the request; the work that is left: register the folder, make an endpoint, deploy. A deployment that fails leaves nothing behind."""
    uri, published = _source(service, request)
    settings, resources = request.model_settings, request.deploy_config.dedicated_resources
    name = settings.model_display_name or (published.rpartition("/")[2] if published else _last_parts(uri))
    container = {"container_spec": settings.container_spec} if settings.container_spec else {}
    model = parse(Model, {"display_name": name, "artifact_uri": uri, **container})
    upload = model_uploads.admit(service, place, UploadModelRequest(model=model, model_id=settings.model_user_id))
    endpoint_name = request.endpoint_config.endpoint_display_name or name
    endpoint_id = request.endpoint_config.endpoint_user_id

    def work() -> Body:
        registered = model_uploads.register(service, upload, must_be_servable=True)
        created = ""
        try:
            endpoint = endpoints.create_endpoint(service, place, Endpoint(display_name=endpoint_name, labels=request.endpoint_config.labels), endpoint_id)
            created = endpoint["name"]
            deployed = DeployedModel(model=registered.resource_name, dedicated_resources=resources)
            endpoint_deployments.deploy(service, created, DeployModelRequest(deployed_model=deployed))()
        except BaseException:
            if created:
                service.store.delete(created)
            models.remove(registered)
            raise
        return {"publisherModel": published, "model": registered.resource_name, "endpoint": created}

    return work


def recommendations(service: Service, location: str, uri: str) -> Body:
    """The one machine that there is: this one. "Has quota" means that the weights are smaller than its memory; how fast it is, nobody has measured.

    A GPU's memory is not looked at: whether the weights fit there shows when they are loaded.
    """
    folder, names = model_uploads.artifact_names(service, uri)
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        raise invalid(f"gcsUri: {uri} holds no *.safetensors; expected the folder of a model.")
    gpu = has_gpu()
    machine = publisher_models.catalog_of(service).machine("local", "GPU" if gpu else "CPU")
    size = sum((folder / name).stat().st_size for name in weights) if folder else 0
    fits = gpu or size < memory_bytes()
    spec = {"machineSpec": {"machineType": machine.machine_type}}
    state = "QUOTA_STATE_USER_HAS_QUOTA" if fits else "QUOTA_STATE_NO_USER_QUOTA"
    return {"recommendations": [{"region": location, "spec": spec, "userQuotaState": state}]}


def memory_bytes() -> int:
    """This machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _source(service: Service, request: DeployRequest) -> tuple[str, str]:
    """The folder that is deployed, and the publisher's model that it is, if it is one."""
    given = [name for name in (request.publisher_model_name, request.hugging_face_model_id, request.custom_model and request.custom_model.gcs_uri) if name]
    if len(given) != 1:
        raise invalid(f"found {len(given)} models; expected one of customModel.gcsUri, publisherModelName and huggingFaceModelId.")
    if request.custom_model and request.custom_model.gcs_uri:
        return request.custom_model.gcs_uri, ""
    uri, published = f"hf://{request.hugging_face_model_id}", request.publisher_model_name
    if published:
        match = _PUBLISHED.fullmatch(published)
        if match is None:
            raise invalid(f"publisherModelName: found {published!r}; expected publishers/PUBLISHER/models/MODEL@VERSION.")
        catalog = publisher_models.catalog_of(service)
        uri = catalog.model(publisher_models.get(catalog, match[1], match[2]).reference).uri
    folder = find_here(uri, downloads=home() / "downloads")
    if folder is None:
        problem = f"{given[0]}: its files ({uri}) are not on this machine, and this service downloads none."
        raise Fault("FAILED_PRECONDITION", f"{problem} Copy them here and give their folder as customModel.gcsUri.")
    return str(Path(folder).absolute()), published


def _last_parts(uri: str) -> str:
    """A name for a folder, whose own is often `final`."""
    return "-".join(part for part in uri.rstrip("/").split("/")[-2:] if part)[-MAX_NAME:]
