"""Where a tuned model is registered: on this machine, in Vertex AI's registry or, in a Kubernetes cluster, under the address of its files."""

import logging
from pathlib import Path

from tuneline.parameters import UploadModel
from tuneline.registry import models
from tuneline.registry.models import Registered, Registration
from tuneline.resolution import Resolved
from tuneline.steps import artifact_uri
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.registering import register_on_vertex

LOG = logging.getLogger(__name__)


def register(
    checkpoint: Path, registration: Registration, parameters: UploadModel, resolved: Resolved, *, serving_image: str, history: Path
) -> Registered:  # fmt: skip
    """Register the checkpoint where the job's back end keeps models."""
    uri = artifact_uri(checkpoint)
    match resolved.backend:
        case "vertex":
            text = history.read_text(encoding="utf-8") if parameters.tensorboard_resource_id else ""
            return register_on_vertex(Cloud(), uri, registration, parameters, resolved, serving_image=serving_image, history=text)
        case "kubernetes":
            return models.keep_in_place(checkpoint, uri, registration)
        case "local":
            version = models.register(checkpoint, registration)
            LOG.info("registered model=%s folder=%s", version.resource_name, version.folder)
            return Registered(resource_name=version.resource_name, record=version.to_json())
