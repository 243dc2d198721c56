"""`endpoints`: create, get, list, patch, delete, deployModel, undeployModel. Predictions are in `predictions`."""

import re
import uuid

from fastapi import APIRouter

from tuneline.api import operations
from tuneline.api.answers import OPERATION, lists, shows
from tuneline.api.faults import Fault, invalid
from tuneline.api.paging import Listing, page
from tuneline.api.resources import endpoint_deployments as deployments
from tuneline.api.resources import endpoint_traffic as traffic
from tuneline.api.resources.endpoint_deployments import FIELDS, KIND, view
from tuneline.api.resources.endpoint_messages import RECORDED, DeployModelRequest, Endpoint, UndeployModelRequest
from tuneline.api.resources.update_masks import changes
from tuneline.api.service import Place, Service
from tuneline.api.store import Body
from tuneline.api.strict_json import StrictRoute
from tuneline.registry import resource_id

CHANGEABLE = ("displayName", "description", "labels", "trafficSplit")
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?|[1-9][0-9]{0,8}")


def create_router(service: Service, version: str) -> APIRouter:
    """The routes."""
    router = APIRouter(route_class=StrictRoute, prefix="/projects/{project}/locations/{location}", tags=[KIND])
    one = f"/{KIND}/{{endpoint_id}}"
    if version == "v1":  # once
        deployments.clear_away(service)

    @router.post(f"/{KIND}", operation_id=f"{version}_create_endpoint", responses=OPERATION)
    def create(project: str, location: str, endpoint: Endpoint, endpointId: str = "", endpoint_id: str = "") -> Body:  # noqa: N803
        body = create_endpoint(service, Place(project, location), endpoint, endpointId or endpoint_id)
        return operations.answer(operations.done(service.store, version, body["name"], "Endpoint", view(body), "CreateEndpointOperationMetadata"))

    @router.get(f"/{KIND}", operation_id=f"{version}_list_endpoints", responses=lists(Endpoint, KIND))
    def list_endpoints(project: str, location: str, listing: Listing) -> Body:
        deployments.synchronise(service)
        return page(service.store, KIND, Place(project, location).name, listing, fields=FIELDS, show=view)

    @router.get(one, operation_id=f"{version}_get_endpoint", responses=shows(Endpoint))
    def get(project: str, location: str, endpoint_id: str) -> Body:
        return view(deployments.get(service, _name(project, location, endpoint_id)))

    @router.patch(one, operation_id=f"{version}_update_endpoint", responses=shows(Endpoint))
    def patch(project: str, location: str, endpoint_id: str, endpoint: Endpoint, updateMask: str = "", update_mask: str = "") -> Body:  # noqa: N803
        return view(change(service, _name(project, location, endpoint_id), changes(updateMask or update_mask, endpoint, CHANGEABLE)))

    @router.delete(one, operation_id=f"{version}_delete_endpoint", responses=OPERATION)
    def delete(project: str, location: str, endpoint_id: str) -> Body:
        name = _name(project, location, endpoint_id)
        with service.store.transaction():
            ids = [deployed["id"] for deployed in deployments.get(service, name)["deployedModels"]]
            if ids:
                raise Fault("FAILED_PRECONDITION", f"{name} has the deployed models {', '.join(ids)}; undeploy them first.")
            service.store.delete(name)
        return operations.answer(operations.done(service.store, version, name, "google.protobuf.Empty", {}, "DeleteOperationMetadata"))

    @router.post(f"{one}:deployModel", operation_id=f"{version}_deploy_model", responses=OPERATION)
    def deploy(project: str, location: str, endpoint_id: str, request: DeployModelRequest) -> Body:
        name = _name(project, location, endpoint_id)
        work = deployments.deploy(service, name, request)
        return operations.answer(operations.start(service.store, version, name, "DeployModelResponse", work, "DeployModelOperationMetadata"))

    @router.post(f"{one}:undeployModel", operation_id=f"{version}_undeploy_model", responses=OPERATION)
    def undeploy(project: str, location: str, endpoint_id: str, request: UndeployModelRequest) -> Body:
        name = _name(project, location, endpoint_id)
        work = deployments.undeploy(service, name, request)
        return operations.answer(operations.start(service.store, version, name, "UndeployModelResponse", work, "UndeployModelOperationMetadata"))

    return router


def create_endpoint(service: Service, place: Place, endpoint: Endpoint, endpoint_id: str = "") -> Body:
    """A new endpoint without models."""
    problems = [] if endpoint.display_name else ["displayName is missing."]
    if endpoint_id and not _ID.fullmatch(endpoint_id):
        problems.append(
            f"endpointId: found {endpoint_id!r}; expected up to 63 lower-case letters, digits and dashes, a letter first and no dash last, or up to 9 digits."
        )
    if endpoint.deployed_models:
        problems.append("deployedModels: found some; expected none. Deploy models with :deployModel.")
    if problems:
        raise invalid(*problems)
    deployments.synchronise(service)
    name = f"{place.name}/{KIND}/{endpoint_id or resource_id(place.name, uuid.uuid4().hex)}"
    given = {key: value for key, value in endpoint.to_json().items() if key in RECORDED}
    return service.store.insert(KIND, deployments.new_body(name, given))


def change(service: Service, name: str, values: Body) -> Body:
    """Change an endpoint's fields."""
    if values.get("displayName") == "":
        raise invalid("displayName: found nothing; expected a name.")

    def changed(body: Body) -> Body:
        if "trafficSplit" in values:
            split = traffic.checked(values["trafficSplit"], [deployed["id"] for deployed in body["deployedModels"]])
            return {**body, **values, "trafficSplit": split}
        return {**body, **values}

    deployments.synchronise(service)
    return service.store.update(name, changed)


def _name(project: str, location: str, endpoint_id: str) -> str:
    return f"{Place(project, location).name}/{KIND}/{endpoint_id}"
