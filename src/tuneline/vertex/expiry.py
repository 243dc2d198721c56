"""When a deployed model is to be taken off its endpoint: a label of the endpoint for each, `tuneline-undeploy-ID: 20261130t120000z`. Pure.

A deployed model has no labels that users may set.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta

PREFIX = "tuneline-undeploy-"
LONGEST_DEPLOYMENT = timedelta(days=1)
"""A model that is still being deployed is not on its endpoint yet."""
_FORM = "%Y%m%dt%H%M%Sz"


def labels_of(deployed_model_id: str, hours: int, now: datetime) -> dict[str, str]:
    """The label for a model that is deployed now."""
    return {PREFIX + deployed_model_id: (now + timedelta(hours=hours)).astimezone(UTC).strftime(_FORM)}


def expires_at(labels: Mapping[str, str], deployed_model_id: str) -> datetime | None:
    """When a model's time is over, if it has one. What is no time is none."""
    try:
        return datetime.strptime(labels.get(PREFIX + deployed_model_id, ""), _FORM).replace(tzinfo=UTC)
    except ValueError:
        return None


def without_old(labels: Mapping[str, str], deployed_model_ids: Collection[str], now: datetime) -> dict[str, str]:
    """The labels of an endpoint without those of models that have left it by other ways: an endpoint has room for 64."""
    old = [key for key in labels if (own := key.removeprefix(PREFIX)) != key and own not in deployed_model_ids and _is_old(labels, own, now)]
    return {key: value for key, value in labels.items() if key not in old}


def _is_old(labels: Mapping[str, str], deployed_model_id: str, now: datetime) -> bool:
    due = expires_at(labels, deployed_model_id)
    return due is None or due < now - LONGEST_DEPLOYMENT


def without(labels: Mapping[str, str], deployed_model_id: str) -> dict[str, str]:
    """The labels of an endpoint that a model has left."""
    return {key: value for key, value in labels.items() if key != PREFIX + deployed_model_id}
