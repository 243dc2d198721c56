"""Where a tuned model is deployed: on this machine, on an endpoint of Vertex AI, or by KServe in a Kubernetes cluster."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from tuneline.deployment import loading_seconds
from tuneline.errors import ParameterError
from tuneline.kubernetes.api import own_namespace
from tuneline.kubernetes.cluster import Cluster
from tuneline.kubernetes.inference_services import PLURAL, Service
from tuneline.parameters import DeployModel
from tuneline.registry import endpoints, models
from tuneline.registry.files import committed_files
from tuneline.resolution import Machine, Resolved
from tuneline.steps import artifact_uri
from tuneline.vertex.artifacts import open_artifact
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.deploying import deploy_on_vertex

LOG = logging.getLogger(__name__)


def deploy(checkpoint: Path, model: str, parameters: DeployModel, resolved: Resolved, labels: Mapping[str, str]) -> tuple[Mapping[str, object], str]:
    """The endpoint's record and its name. On this machine the record is what the engine starts a server from."""
    if resolved.backend == "local":
        return _deploy_here(model, labels)
    if resolved.serving is None:
        raise ParameterError("deploy_model: found true; validate-parameters chose no machine for it.", next_action="Run the pipeline anew with deploy_model.")
    if resolved.backend == "kubernetes":
        return _deploy_on_kubernetes(checkpoint, model, parameters, resolved.serving, labels)
    cloud = Cloud()
    record = deploy_on_vertex(
        cloud, model, open_artifact(cloud.objects, artifact_uri(checkpoint)), parameters, resolved, machine=resolved.serving, labels=labels
    )
    return record, record["name"]


def _deploy_here(model: str, labels: Mapping[str, str]) -> tuple[Mapping[str, object], str]:
    version = models.get(model)
    version.verify()
    deployment = endpoints.deployment_of(version, labels=labels)
    LOG.info("to be deployed endpoint=%s model=%s", deployment.endpoint_resource_name, version.resource_name)
    return asdict(deployment), deployment.endpoint_resource_name


def _deploy_on_kubernetes(
    checkpoint: Path, model: str, parameters: DeployModel, machine: Machine, labels: Mapping[str, str]
) -> tuple[Mapping[str, object], str]:  # fmt: skip
    num_bytes = sum(file.bytes for file in committed_files(checkpoint).values())
    service = Service(
        project=parameters.project, display_name=parameters.model_display_name, uri=model, num_bytes=num_bytes, accelerator_count=machine.accelerator_count,
        min_replica_count=parameters.min_replica_count, max_replica_count=parameters.max_replica_count, labels=labels,
    )  # fmt: skip
    manifest = service.to_json(own_namespace())
    found = Cluster().serve(manifest, timeout_seconds=loading_seconds(num_bytes))
    name = f"namespaces/{manifest['metadata']['namespace']}/{PLURAL}/{service.name}"
    LOG.info("deployed model=%s endpoint=%s url=%s", model, name, found.get("status", {}).get("url", ""))
    return {"name": name, "model": model, "url": found.get("status", {}).get("url", ""), "manifest": manifest}, name
