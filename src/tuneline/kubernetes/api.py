"""The API of the cluster that this pod is in: the pod's own client and namespace, what is asked again, and what a refusal means."""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tuneline.errors import InfrastructureError, TunelineError, UserError
from tuneline.registry import resource_id
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

Answer = TypeVar("Answer")
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PASSING = {429, 500, 502, 503, 504}
"""Answers that may be different the next time."""


def open_client(purpose: str) -> "ApiClient":
    """A client with the pod's own credentials. The purpose begins the sentence that says what needs it."""
    try:
        from kubernetes import client, config
    except ModuleNotFoundError:
        problem = f"{purpose} needs the package kubernetes, which is not installed."
        raise UserError(problem, next_action="pip install 'tuneline[kubernetes]'") from None
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise UserError(f"This is no pod of a Kubernetes cluster: {error}", next_action="Run the pipeline on Kubeflow Pipelines.") from None
    return client.ApiClient(configuration)


def own_namespace() -> str:
    """The namespace of this pod."""
    return NAMESPACE_FILE.read_text(encoding="utf-8").strip()


def object_name(project: str, display_name: str) -> str:
    """A name for what belongs to one model: at most 41 characters, and one for each project and display name."""
    slug = re.sub(r"[^a-z0-9]+", "-", display_name.lower()).strip("-")[:30].strip("-") or "model"
    return f"{slug if slug[0].isalpha() else f'm-{slug}'}-{resource_id(project, display_name)[-8:]}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of object, as far as its refusals need it."""

    permission: str
    """What to do when the pod's service account may not touch it."""
    missing: str
    """What to do when the cluster does not have it."""


def ask(send: Callable[[], Answer], where: str, kind: Kind, *, backoff: Backoff, clock: Clock) -> Answer:
    """What a call answers that may be made twice, asked again as long as its failure may pass."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    for seconds in (*backoff.waits(), None):
        try:
            return send()
        except ApiException as error:
            if error.status not in _PASSING or seconds is None:
                raise _refused(where, kind, error) from error
        except HTTPError as error:
            if seconds is None:
                raise InfrastructureError(f"{where}: the Kubernetes API cannot be reached: {error}", next_action="Try again.") from error
        clock.sleep(seconds)
    raise AssertionError("the last try either answers or raises")


def unless(statuses: Collection[int], send: Callable[[], Answer]) -> Callable[[], Answer | None]:
    """The same call, for which answers of these statuses are no errors: of a second creation 409, of a second deletion 404. It then gives nothing."""

    def call() -> Answer | None:
        from kubernetes.client import ApiException

        try:
            return send()
        except ApiException as error:
            if error.status in statuses:
                return None
            raise

    return call


def _refused(where: str, kind: Kind, error: "ApiException") -> TunelineError:
    """What an answer means that is no success."""
    problem = f"{where}: {error.status} {error.reason}: {_message(error.body)}"
    if error.status in (401, 403):
        return UserError(problem, next_action=kind.permission)
    if error.status == 404:
        return UserError(problem, next_action=kind.missing)
    return InfrastructureError(problem) if error.status in _PASSING else UserError(problem)


def _message(body: str | bytes | None) -> str:
    try:
        return str(json.loads(body or "{}")["message"])
    except (ValueError, KeyError, TypeError):  # a proxy's page
        return "no message"
