"""KServe's InferenceService as a value: what serves a tuned model, and what its status means. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tuneline.deployment import KSERVE_SCHEMES
from tuneline.errors import ModelError, UserError
from tuneline.kubernetes.api import object_name
from tuneline.registry.models import label

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
MODEL_FOLDER = "/mnt/models"
"""Where KServe puts the model's files."""
CPUS = "4"
_FAILED = ("InvalidSpec", "BlockedByFailedLoad")
"""States of a transition that does not end by itself."""


@dataclass(frozen=True, kw_only=True)
class Service:
    """What is to be served."""

    project: str
    display_name: str
    uri: str
    """Folder of the model's files."""
    num_bytes: int
    accelerator_count: int
    min_replica_count: int = 1
    max_replica_count: int = 1
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """One for each display name of a project, so that the next version takes the place of the last."""
        return object_name(self.project, self.display_name)

    def to_json(self, namespace: str) -> dict[str, Any]:
        """The object as the cluster takes it. Raises UserError for files that KServe cannot read."""
        if not self.uri.startswith(KSERVE_SCHEMES):
            raise UserError(
                f"deploy_model: the model is at {self.uri}; KServe reads {' and '.join(KSERVE_SCHEMES)}.",
                next_action="Set the pipeline root to a gs:// or s3:// folder, or deploy_model to false.",
            )
        accelerators = {"nvidia.com/gpu": str(self.accelerator_count)} if self.accelerator_count else {}
        resources = {"cpu": CPUS, "memory": f"{math.ceil(1.5 * self.num_bytes / 2**30) + 8}Gi", **accelerators}
        return {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "InferenceService",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {"app.kubernetes.io/managed-by": "tuneline", **{key: label(value).strip("-_") for key, value in self.labels.items()}},
                "annotations": {"tuneline/display-name": self.display_name, "tuneline/model": self.uri},
            },
            "spec": {
                "predictor": {
                    "minReplicas": self.min_replica_count,
                    "maxReplicas": self.max_replica_count,
                    "model": {
                        "modelFormat": {"name": "huggingface"},
                        "args": [f"--model_name={self.name}", f"--model_dir={MODEL_FOLDER}"],
                        "storageUri": self.uri,
                        "resources": {"limits": resources, "requests": resources},
                    },
                }
            },
        }


def is_ready(service: Mapping[str, Any]) -> bool:
    """Whether it serves what it was last told to. Raises ModelError when that will not be."""
    status = service.get("status", {})
    if int(status.get("observedGeneration", 0)) < int(service["metadata"].get("generation", 0)):
        return False  # the status is that of an earlier version
    model = status.get("modelStatus", {})
    if model.get("transitionStatus") in _FAILED:
        failure = model.get("lastFailureInfo", {})
        reason = f"{model['transitionStatus']}: {failure.get('reason', '')} {failure.get('message', '')}".strip(": ")
        raise ModelError(f"InferenceService {service['metadata']['name']}: {reason}.", next_action="kubectl describe inferenceservice tells more.")
    return condition(service, "Ready").get("status") == "True"


def condition(service: Mapping[str, Any], kind: str) -> dict[str, str]:
    """One of the conditions in the status, if it is there."""
    found: list[dict[str, str]] = service.get("status", {}).get("conditions", [])
    return next((each for each in found if each.get("type") == kind), {})
