"""InferenceServices of the cluster that this pod is in: applied by the server, so that twice is as once, and waited for."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneline.errors import InfrastructureError, TunelineError, UserError
from tuneline.kubernetes.inference_services import GROUP, PLURAL, VERSION, condition, is_ready
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
MANAGER = "tuneline"
"""Who owns the fields that are applied."""
TIMEOUT_SECONDS = 60
POLL_SECONDS = 5.0
_PASSING = {429, 500, 502, 503, 504}
"""Answers that may be different the next time. Every call here may be made twice."""


def open_client() -> "ApiClient":
    """A client with the pod's own credentials."""
    try:
        from kubernetes import client, config
    except ModuleNotFoundError:
        raise UserError("KServe needs the package kubernetes, which is not installed.", next_action="pip install 'tuneline[kubernetes]'") from None
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise UserError(f"This is no pod of a Kubernetes cluster: {error}", next_action="Run the pipeline on Kubeflow Pipelines.") from None
    return client.ApiClient(configuration)


def own_namespace() -> str:
    """The namespace of this pod."""
    return NAMESPACE_FILE.read_text(encoding="utf-8").strip()


@dataclass(kw_only=True)
class Cluster:
    """The API of the cluster."""

    client: "ApiClient" = field(default_factory=open_client)
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = field(default_factory=Clock)

    def serve(self, manifest: dict[str, Any], *, timeout_seconds: float) -> dict[str, Any]:
        """Create or change the InferenceService and wait until it is ready; the object as it then is."""
        place = f"/apis/{GROUP}/{VERSION}/namespaces/{manifest['metadata']['namespace']}/{PLURAL}/{manifest['metadata']['name']}"
        found = self._call("PATCH", place, manifest)
        until = self.clock.now() + timeout_seconds
        while not is_ready(found):
            if self.clock.now() >= until:
                reason = condition(found, "Ready").get("message", "no reason is given")
                problem = f"InferenceService {manifest['metadata']['name']} was not ready within {timeout_seconds:.0f} s: {reason}."
                raise InfrastructureError(problem, next_action="It stays as it is: kubectl describe inferenceservice tells more. Try again to wait on.")
            self.clock.sleep(POLL_SECONDS)
            found = self._call("GET", place)
        return found

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        where = f"{method} {path}"
        for seconds in (*self.backoff.waits(), None):
            try:
                return self._send(method, path, body)
            except ApiException as error:
                if error.status not in _PASSING or seconds is None:
                    raise _refused(where, error) from error
            except HTTPError as error:
                if seconds is None:
                    raise InfrastructureError(f"{where}: the Kubernetes API cannot be reached: {error}", next_action="Try again.") from error
            self.clock.sleep(seconds)
        raise AssertionError("the last try either answers or raises")

    def _send(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        applied = {"Content-Type": "application/apply-patch+yaml"} if body else {}  # JSON is YAML
        answer: dict[str, Any] = self.client.call_api(
            path,
            method,
            query_params=[("fieldManager", MANAGER), ("force", "true")] if body else [],
            header_params={"Accept": "application/json", **applied},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _request_timeout=TIMEOUT_SECONDS,
        )
        return answer


def _refused(where: str, error: "ApiException") -> TunelineError:
    """What an answer means that is no success."""
    problem = f"{where}: {error.status} {error.reason}: {_message(error.body)}"
    if error.status in (401, 403):
        return UserError(problem, next_action=f"Let the pod's service account get and patch {PLURAL}.{GROUP} in its namespace (docs/deployment.md).")
    if error.status == 404:
        return UserError(problem, next_action="Install KServe in the cluster, or set deploy_model to false.")
    return InfrastructureError(problem) if error.status in _PASSING else UserError(problem)


def _message(body: str | bytes | None) -> str:
    try:
        return str(json.loads(body or "{}")["message"])
    except (ValueError, KeyError, TypeError):  # a proxy's page
        return "no message"
