"""Where a tuned model is registered: on this machine, in Vertex AI's registry or, in a Kubernetes cluster, by the address of its files."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tuneline.parameters import UploadModel
from tuneline.registry.models import NOTHING, Registered, Registration
from tuneline.resolution import Resolved
from tuneline.steps import artifact_uri, kubernetes_upload, local_upload
from tuneline.vertex import lineage
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.registering import register_on_vertex

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be registered."""

    registration: Registration
    parameters: UploadModel
    resolved: Resolved
    promotion: Mapping[str, object] | None
    """What select-checkpoint decided about the champion; nothing where there is no gate."""


def register(checkpoint: Path, order: Order, *, serving_image: str, history: Path) -> Registered:
    """Register the checkpoint where the job's back end keeps models; nothing when the champion's gate keeps it out."""
    match order.resolved.backend:
        case "vertex":
            text = history.read_text(encoding="utf-8") if order.parameters.tensorboard_resource_id else ""
            return _register_on_vertex(artifact_uri(checkpoint), order, serving_image=serving_image, history=text)
        case "kubernetes":
            return kubernetes_upload.upload(checkpoint, artifact_uri(checkpoint), order.registration, order.promotion)
        case "local":
            return local_upload.upload(checkpoint, order.registration, order.promotion)


def _register_on_vertex(uri: str, order: Order, *, serving_image: str, history: str) -> Registered:
    cloud, champion = Cloud(), order.resolved.champion
    if order.promotion and not order.promotion["is_promoted"]:
        if champion:
            lineage.refuse(cloud.vertex(order.resolved.upload_region), champion, order.registration.data_fingerprint)
        LOG.info("not registered: %s", order.promotion["reason"])
        return NOTHING
    aliases = ",".join(filter(None, (order.parameters.version_aliases, *lineage.promotion_aliases(order.promotion))))
    parameters = replace(order.parameters, version_aliases=aliases)
    return register_on_vertex(cloud, uri, order.registration, parameters, order.resolved, serving_image=serving_image, history=history)
