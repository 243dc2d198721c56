"""Registering the tuned model on this machine: a version of its model, and the champion if it has beaten the one before."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tuneline.registry import lineage
from tuneline.registry.models import NOTHING, Registered, Registration, register

LOG = logging.getLogger(__name__)


def upload(checkpoint: Path, registration: Registration, promotion: Mapping[str, object] | None) -> Registered:
    """The version; nothing for a model that the champion's gate keeps out.

    `promotion` is what select-checkpoint decided, or nothing where there is no gate.
    """
    if promotion and not promotion["is_promoted"]:
        champion = lineage.champion(registration)
        if champion:
            lineage.refuse(champion, registration.data_fingerprint)
        LOG.info("not registered: %s", promotion["reason"])
        return NOTHING
    version = register(checkpoint, registration)
    if promotion:
        lineage.promote(version)
    LOG.info("registered model=%s folder=%s champion=%s", version.resource_name, version.folder, bool(promotion))
    return Registered(resource_name=version.resource_name, record=version.to_json())
