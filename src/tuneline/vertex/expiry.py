"""When a deployed model is to be taken off its endpoint: a label of the endpoint for each, `tuneline-undeploy-ID: 20261130t120000z`. Pure.

A deployed model has no labels that users may set.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

PREFIX = "tuneline-undeploy-"
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


def without(labels: Mapping[str, str], deployed_model_id: str) -> dict[str, str]:
    """The labels of an endpoint that a model has left."""
    return {key: value for key, value in labels.items() if key != PREFIX + deployed_model_id}
