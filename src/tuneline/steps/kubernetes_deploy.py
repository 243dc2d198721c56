"""Deploying the tuned model in a Kubernetes cluster: an InferenceService of KServe reads it from where it is."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tuneline.deployment import loading_seconds
from tuneline.kubernetes.api import own_namespace
from tuneline.kubernetes.cluster import Cluster
from tuneline.kubernetes.inference_services import PLURAL, Service
from tuneline.parameters import DeployModel
from tuneline.registry.files import committed_files
from tuneline.resolution import Machine

LOG = logging.getLogger(__name__)


def deploy(
    checkpoint: Path, model: str, parameters: DeployModel, machine: Machine, labels: Mapping[str, str]
) -> tuple[Mapping[str, object], str]:  # fmt: skip
    """The record of the InferenceService and its name, once it is ready."""
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
