"""Which server answers a request for an endpoint, a publisher's model, or a model by name."""

import random
from dataclasses import dataclass
from pathlib import Path

from tuneline.api.faults import Fault, invalid, not_found
from tuneline.api.resources import endpoint_deployments, publisher_models
from tuneline.api.resources import endpoint_traffic as traffic
from tuneline.api.service import Service
from tuneline.api.store import Body
from tuneline.data.base_model import find_here
from tuneline.registry import endpoints as registry
from tuneline.registry import home, resource_id
from tuneline.registry.endpoints import Deployment


@dataclass(frozen=True, kw_only=True)
class Target:
    """A deployed model, and what an answer says about it."""

    server_id: str
    deployed_model_id: str
    model: str
    """Resource name without the version."""
    version_id: str
    display_name: str
    deployment: Deployment | None = None
    """Of a base model, which is served on demand; a deployed model's is in the registry."""

    @property
    def folder(self) -> Path:
        """The model's files."""
        found = self.deployment or getattr(registry.get(self.server_id), "deployment", None)
        if found is None:
            raise not_found(f"the deployed model {self.deployed_model_id}")
        return Path(found.model_path)


def of_endpoint(service: Service, name: str) -> Target:
    """One of the endpoint's models, drawn by its share of the traffic."""
    body = service.store.find(name) or endpoint_deployments.get(service, name)
    if not body["deployedModels"]:  # perhaps the command line has deployed one
        body = endpoint_deployments.get(service, name)
    if not body["deployedModels"]:
        raise Fault("FAILED_PRECONDITION", f"{name} has no deployed model; deploy one with :deployModel.")
    if not body["trafficSplit"]:
        raise Fault("FAILED_PRECONDITION", f"{name} has an empty trafficSplit, so none of its models gets requests. Set it with PATCH.")
    wanted = traffic.chosen(body["trafficSplit"], random.random())  # noqa: S311 (no secret depends on it)
    return _target(body, next(deployed for deployed in body["deployedModels"] if deployed["id"] == wanted))


def of_publisher(service: Service, publisher: str, model_id: str) -> Target:
    """A deployed model of this name; else the base model of the catalogue, if its files are on this machine."""
    deployed = _deployed(service, model_id) or _deployed(service, f"{publisher}/{model_id}")
    return deployed or _base(service, publisher, model_id)


def of_name(service: Service, name: str) -> Target:
    """The model that an OpenAI client means: a deployed one by any of its names, or a base model."""
    if not name:
        targets = deployed_models(service)
        if len(targets) != 1:
            names = ", ".join(target.display_name for target in targets)
            raise invalid(f"model: missing; expected one of {names}." if targets else "model: no model is deployed.")
        return targets[0]
    publisher, _, model_id = name.rpartition("/")
    target = _deployed(service, name) or _deployed(service, model_id)
    if target is None and "/" not in publisher:
        catalog = publisher_models.catalog_of(service)
        if publisher_models.find(catalog, publisher or publisher_models.GOOGLE, model_id):
            return _base(service, publisher or publisher_models.GOOGLE, model_id)
    if target is None:
        names = ", ".join(dict.fromkeys(target.display_name for target in deployed_models(service)))
        raise not_found(f"model {name!r}", f"Deployed are {names}." if names else "No model is deployed.")
    return target


def deployed_models(service: Service) -> list[Target]:
    """All deployed models, the endpoint that changed last first."""
    return [target for target, _ in _named(service)]


def _named(service: Service) -> list[tuple[Target, tuple[str, ...]]]:
    """Every deployed model with its names, the best first."""
    endpoint_deployments.synchronise(service)
    found: list[tuple[Target, tuple[str, ...]]] = []
    for body in sorted(endpoint_deployments.with_models(service), key=lambda body: str(body["updateTime"]), reverse=True):
        for deployed in body["deployedModels"]:
            target = _target(body, deployed)
            model_id, versioned = target.model.rpartition("/")[2], endpoint_deployments.version_name(deployed)
            names = (target.display_name, deployed["id"], versioned, target.model, f"{model_id}@{target.version_id}", model_id)
            found.append((target, (*names, body["name"], body["endpoint"], body["displayName"])))
    return found


def _deployed(service: Service, name: str) -> Target | None:
    matching = [(names.index(name), target) for target, names in _named(service) if name in names]
    return min(matching, key=lambda pair: pair[0])[1] if matching else None


def _target(body: Body, deployed: Body) -> Target:
    return Target(
        server_id=endpoint_deployments.server_id(body["name"], deployed["id"]),
        deployed_model_id=deployed["id"],
        model=deployed["model"],
        version_id=deployed["modelVersionId"],
        display_name=deployed["displayName"],
    )


def _base(service: Service, publisher: str, model_id: str) -> Target:
    catalog = publisher_models.catalog_of(service)
    published = publisher_models.get(catalog, publisher, model_id)
    row = catalog.model(published.reference)
    folder = find_here(row.uri, downloads=home() / "downloads")
    if folder is None:
        stands_in = f", which stands for {published.reference}," if row.reference != published.reference else ""
        problem = f"{row.reference}{stands_in} is not on this machine, and an answer does not wait for its download."
        raise Fault("FAILED_PRECONDITION", f"{problem} Tune it, or let a model that is here stand for it in the service's --catalog.")
    identifier = resource_id("publishers", published.name, published.version, str(folder))
    return Target(
        server_id=identifier,
        deployed_model_id=identifier,
        model=published.name,
        version_id=published.version,
        display_name=published.reference,
        deployment=registry.deployment(
            endpoint_id=identifier,
            endpoint_resource_name=f"{published.name}@{published.version}",
            display_name=published.reference,
            model_resource_name=f"{published.name}@{published.version}",
            model_path=folder,
        ),
    )
