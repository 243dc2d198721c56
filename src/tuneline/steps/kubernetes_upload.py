"""Registering the tuned model in a Kubernetes cluster: its files stay where they are, a ConfigMap keeps the versions."""

import logging
from collections.abc import Mapping
from pathlib import Path

from tuneline.errors import UserError
from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.registry.models import NOTHING, Registered, Registration, keep_in_place

LOG = logging.getLogger(__name__)


def upload(checkpoint: Path, uri: str, registration: Registration, promotion: Mapping[str, object] | None) -> Registered:
    """The version, by the address of its files; nothing for a model that the champion's gate keeps out.

    A cluster whose pods may not keep ConfigMaps keeps no versions; that is an error only where later runs rely on them.
    """
    if promotion and not promotion["is_promoted"]:
        _registry(registration).refuse(registration.data_fingerprint)
        LOG.info("not registered: %s", promotion["reason"])
        return NOTHING
    kept = keep_in_place(checkpoint, uri, registration)
    record = {key: value for key, value in kept.record.items() if key != "files"}
    try:
        version = _registry(registration).register(record, is_promoted=bool(promotion))
    except UserError as error:
        if promotion or _is_relied_on(registration):
            raise
        LOG.warning("no version was recorded: %s %s", error, error.next_action)
        return kept
    LOG.info("registered model=%s version=%s champion=%s", uri, version["versionId"], bool(promotion))
    return Registered(resource_name=uri, record={**kept.record, "versionId": version["versionId"], "versionAliases": version["versionAliases"]})


def _is_relied_on(registration: Registration) -> bool:
    """Whether an earlier job has looked for versions."""
    try:
        return _registry(registration).exists()
    except UserError:
        return False


def _registry(registration: Registration) -> ModelRegistry:
    return ModelRegistry(project=registration.project, display_name=registration.display_name)
