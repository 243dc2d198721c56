"""Endpoints and the servers behind them.

A deployed model is one server process of this machine's registry (`tuneline.registry.endpoints`), which says whether it runs. The
store's row of an endpoint says which models are behind it and how they share its traffic. Endpoints that a pipeline job or the command
line deployed are in the registry only; before anything is read, they get a row, and models that were undeployed there leave theirs.
"""

import logging
import re
import threading
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from tuneline.api.faults import Fault, invalid
from tuneline.api.resources import endpoint_traffic as traffic
from tuneline.api.resources.endpoint_messages import DeployModelRequest, UndeployModelRequest
from tuneline.api.resources.model_versions import find_version
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.service import Service
from tuneline.api.store import Body, Query
from tuneline.errors import TunelineError
from tuneline.local.run_record import now
from tuneline.registry import endpoints as registry
from tuneline.registry import resource_id

LOG = logging.getLogger(__name__)
KIND = "endpoints"
FIELDS = ("endpoint", "displayName", "description", "labels", "createTime", "updateTime")
"""What a list may be filtered and ordered by."""
LOADING_SECONDS = 1800
"""How long a server may take to load its model."""
DEPLOYED = "DEPLOYED"
"""State, in the store only, of an endpoint with models: there may be many without."""
LOOSE = "looseServers"
"""Kind of the notes about servers that belong to no endpoint yet, or no more. A service that ends in between leaves them to the next one."""
_DEPLOYED_ID = re.compile(r"[1-9][0-9]{0,9}")


def server_id(endpoint: str, deployed_model_id: str) -> str:
    """The registry's name for the server of a deployed model. What was deployed without this service has one id for endpoint and model."""
    return deployed_model_id if endpoint.endswith(f"/{deployed_model_id}") else resource_id(endpoint, deployed_model_id)


def get(service: Service, name: str) -> Body:
    """The endpoint; NOT_FOUND without it."""
    synchronise(service)
    return service.store.get(name)


def references(service: Service) -> dict[str, list[Body]]:
    """Where each model version is deployed, by its resource name."""
    synchronise(service)
    found: dict[str, list[Body]] = {}
    for body in with_models(service):
        for deployed in body["deployedModels"]:
            found.setdefault(version_name(deployed), []).append({"endpoint": body["name"], "deployedModelId": deployed["id"]})
    return found


def version_name(deployed: Body) -> str:
    """Resource name of the model version behind an endpoint."""
    return f"{deployed['model']}@{deployed['modelVersionId']}"


def synchronise(service: Service) -> None:
    """Make the store's rows agree with what is deployed on this machine."""
    if not any(_differences(service)):
        return
    with service.store.transaction():
        adopted, gone = _differences(service)
        for endpoint in adopted:
            _adopt(service, endpoint)
        for name, ids in gone.items():
            service.store.update(name, lambda body, ids=ids: _without(body, ids, traffic.without(body["trafficSplit"], ids)))  # type: ignore[misc]


def clear_away(service: Service) -> None:
    """At the start of the service: stop the servers that an earlier one was starting or stopping when it ended. Nobody else will."""
    left = service.store.page(Query(kind=LOOSE, parent="*"))

    def work() -> None:
        for note in left:
            _forget_server(service, note["name"])

    if left:
        threading.Thread(target=work, name="clearing away", daemon=True).start()


def deploy(service: Service, name: str, request: DeployModelRequest) -> Callable[[], Body]:
    """Check the request; the work that is left: start the server, then give it its share of the traffic."""
    asked = request.deployed_model
    synchronise(service)
    if not asked.model:
        raise invalid("deployedModel.model is missing.")
    model = find_version(service, asked.model if "@" in asked.model or not asked.model_version_id else f"{asked.model}@{asked.model_version_id}")
    if not model[PRIVATE]["isServable"]:
        problem = f"{model['name']} was recorded without the files of a model, so there is nothing to serve here."
        raise Fault("FAILED_PRECONDITION", f"{problem} Upload it with the folder of a model as artifactUri.")
    deployed_id = asked.id or resource_id(name, model["name"], uuid.uuid4().hex)
    with service.store.transaction():
        body = service.store.get(name)
        ids = [deployed["id"] for deployed in body["deployedModels"]]
        if asked.id and (not _DEPLOYED_ID.fullmatch(asked.id) or asked.id in ids or name.endswith(f"/{asked.id}")):
            raise invalid(f"deployedModel.id: found {asked.id!r}; expected up to 10 digits, no 0 first, that no other model of the endpoint has, or nothing.")
        traffic.with_new(body["trafficSplit"], request.traffic_split, deployed_id, ids)
        note = _take_note(service, name, deployed_id)
    deployed: Body = {
        **{key: value for key, value in asked.to_json().items() if key not in ("status", "createTime")},
        "id": deployed_id,
        "model": model[PRIVATE]["model"],
        "modelVersionId": model["versionId"],
        "displayName": asked.display_name or model["displayName"],
        "createTime": now(),
    }

    def work() -> Body:
        deployment = registry.deployment(
            endpoint_id=server_id(name, deployed_id),
            endpoint_resource_name=name,
            display_name=deployed["displayName"],
            model_resource_name=model["name"],
            model_path=Path(model[PRIVATE]["folder"]),
        )
        try:
            registry.start(asdict(deployment), timeout_seconds=LOADING_SECONDS)
            with service.store.transaction():
                find_version(service, model["name"])  # it may have been deleted while it was loaded
                service.store.update(name, lambda found: _with(found, deployed, request.traffic_split))
                service.store.delete(note)
        except BaseException:
            _forget_server(service, note)
            raise
        return {"deployedModel": deployed}

    return work


def undeploy(service: Service, name: str, request: UndeployModelRequest) -> Callable[[], Body]:
    """Take the model out of the traffic at once; the work that is left: stop its server."""
    deployed_id = request.deployed_model_id
    get(service, name)

    def change(body: Body) -> Body:
        ids = [deployed["id"] for deployed in body["deployedModels"]]
        if deployed_id not in ids:
            raise invalid(f"deployedModelId: found {deployed_id!r}; expected {', '.join(ids) or 'none: no model is deployed'}.")
        others = [id_ for id_ in ids if id_ != deployed_id]
        split = request.traffic_split or body["trafficSplit"]
        if others and split.get(deployed_id):
            raise invalid(f"trafficSplit: {deployed_id} has {split[deployed_id]} percent of the traffic. Give it to others first, or in this request.")
        return _without(body, [deployed_id], traffic.checked(split, others) if others else {})

    with service.store.transaction():
        service.store.update(name, change)
        note = _take_note(service, name, deployed_id)

    def work() -> Body:
        _forget_server(service, note)
        return {}

    return work


def view(body: Body) -> Body:
    """The resource as it is answered."""
    shown = {key: value for key, value in body.items() if key not in ("endpoint", "state")}
    deployed = [{**deployed, "status": _status(registry.get(server_id(body["name"], deployed["id"])))} for deployed in body["deployedModels"]]
    return {**shown, "deployedModels": deployed}


def _status(endpoint: registry.Endpoint | None) -> Body:
    if endpoint is None or not endpoint.is_alive:
        reason = endpoint.reason if endpoint else ""
        return {"message": f"Stopped{f': {reason}' if reason else ''}. The next request starts it again.", "availableReplicaCount": 0}
    return {"message": endpoint.state.capitalize(), "availableReplicaCount": int(endpoint.state == "RUNNING")}


def with_models(service: Service) -> list[Body]:
    """The endpoints that have a model."""
    return service.store.in_states(KIND, DEPLOYED)


def _is_listed(service: Service, endpoint: registry.Endpoint) -> bool:
    name = endpoint.deployment.endpoint_resource_name
    body = service.store.find(name)
    if service.store.find(_note(name, endpoint.deployment.endpoint_id)) is not None:  # it is about to go
        return True
    return body is not None and any(server_id(name, deployed["id"]) == endpoint.deployment.endpoint_id for deployed in body["deployedModels"])


def _differences(service: Service) -> tuple[list[registry.Endpoint], dict[str, list[str]]]:
    """Endpoints without a row or not in theirs, and deployed models whose server is not wanted any more."""
    found = {endpoint.deployment.endpoint_id: endpoint for endpoint in registry.list_endpoints() if endpoint.is_wanted}
    own = [endpoint for endpoint in found.values() if endpoint.deployment.endpoint_resource_name.endswith(f"/{KIND}/{endpoint.deployment.endpoint_id}")]
    adopted = [endpoint for endpoint in own if not _is_listed(service, endpoint)]
    gone = {
        body["name"]: ids
        for body in with_models(service)
        if (ids := [deployed["id"] for deployed in body["deployedModels"] if server_id(body["name"], deployed["id"]) not in found])
    }
    return adopted, gone


def _adopt(service: Service, endpoint: registry.Endpoint) -> None:
    deployment = endpoint.deployment
    model, _, number = deployment.model_resource_name.rpartition("@")
    deployed: Body = {
        "id": deployment.endpoint_id,
        "model": model,
        "modelVersionId": number,
        "displayName": deployment.display_name,
        "createTime": now(),
        "automaticResources": {"minReplicaCount": 1, "maxReplicaCount": 1},
    }
    if service.store.find(deployment.endpoint_resource_name) is None:
        labels = {"labels": dict(deployment.labels)} if deployment.labels else {}
        service.store.insert(KIND, new_body(deployment.endpoint_resource_name, {"displayName": deployment.display_name, **labels}))
    service.store.update(deployment.endpoint_resource_name, lambda body: _with(body, deployed, {}))


def new_body(name: str, given: Body) -> Body:
    """The row of an endpoint without models."""
    return {**given, "name": name, "endpoint": name.rpartition("/")[2], "deployedModels": [], "trafficSplit": {}}


def _with(body: Body, deployed: Body, asked: Mapping[str, int]) -> Body:
    ids = [other["id"] for other in body["deployedModels"]]
    split = traffic.with_new(body["trafficSplit"], asked, deployed["id"], ids)
    return {**body, "deployedModels": [*body["deployedModels"], deployed], "trafficSplit": split, "state": DEPLOYED}


def _without(body: Body, ids: Collection[str], split: Mapping[str, int]) -> Body:
    kept = [deployed for deployed in body["deployedModels"] if deployed["id"] not in ids]
    return {**body, "deployedModels": kept, "trafficSplit": dict(split), "state": DEPLOYED if kept else ""}


def _note(endpoint: str, deployed_model_id: str) -> str:
    return f"{endpoint}/{LOOSE}/{server_id(endpoint, deployed_model_id)}"


def _take_note(service: Service, endpoint: str, deployed_model_id: str) -> str:
    note = _note(endpoint, deployed_model_id)
    if service.store.find(note) is not None:
        raise Fault("FAILED_PRECONDITION", f"{endpoint}: the server of {deployed_model_id} is being started or stopped; wait for that operation.")
    return str(service.store.insert(LOOSE, {"name": note})["name"])


def _forget_server(service: Service, note: str) -> None:
    """Stop a loose server, and forget it."""
    endpoint = registry.get(note.rpartition("/")[2])
    if endpoint is not None:
        try:
            registry.remove(endpoint)
        except TunelineError:  # the note stays for the next service
            LOG.exception("%s could not be stopped", note)
            return
    service.store.delete(note)
