"""Where a tuned model is deployed: on this machine, on an endpoint of Vertex AI, or by KServe in a Kubernetes cluster."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from tuneline.errors import ParameterError
from tuneline.parameters import DeployModel
from tuneline.registry import endpoints, models
from tuneline.resolution import Resolved
from tuneline.steps import artifact_uri, kubernetes_deploy
from tuneline.vertex.artifacts import open_artifact
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.deploying import deploy_on_vertex

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be deployed."""

    model: str
    """The registered version."""
    parameters: DeployModel
    resolved: Resolved
    labels: Mapping[str, str]
    """Of the endpoint."""


def deploy(checkpoint: Path, order: Order, *, undeploy_image: str) -> tuple[Mapping[str, object], str]:
    """The endpoint's record and its name. On this machine the record is what the engine starts a server from."""
    serving = order.resolved.serving
    if order.resolved.backend == "local":
        return _deploy_here(order)
    if serving is None:
        raise ParameterError("deploy_model: found true; validate-parameters chose no machine for it.", next_action="Run the pipeline anew with deploy_model.")
    if order.resolved.backend == "kubernetes":
        return kubernetes_deploy.deploy(checkpoint, order.model, order.parameters, serving, order.labels)
    cloud = Cloud()
    origin = open_artifact(cloud.objects, artifact_uri(checkpoint))
    record = deploy_on_vertex(
        cloud, order.model, origin, order.parameters, order.resolved, machine=serving, labels=order.labels, undeploy_image=undeploy_image
    )  # fmt: skip
    return record, record["name"]


def _deploy_here(order: Order) -> tuple[Mapping[str, object], str]:
    version = models.get(order.model)
    version.verify()
    deployment = endpoints.deployment_of(version, labels=order.labels)
    LOG.info("to be deployed endpoint=%s model=%s", deployment.endpoint_resource_name, version.resource_name)
    return asdict(deployment), deployment.endpoint_resource_name
