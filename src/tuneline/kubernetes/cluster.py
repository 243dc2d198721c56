"""InferenceServices of the cluster that this pod is in: applied by the server, so that twice is as once, and waited for."""

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tuneline.errors import InfrastructureError
from tuneline.kubernetes.api import Kind, ask, open_client
from tuneline.kubernetes.inference_services import GROUP, PLURAL, VERSION, condition, is_ready
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KIND = Kind(
    permission=f"Let the pod's service account get and patch {PLURAL}.{GROUP} in its namespace (docs/deployment.md).",
    missing="Install KServe in the cluster, or set deploy_model to false.",
)
MANAGER = "tuneline"
"""Who owns the fields that are applied."""
TIMEOUT_SECONDS = 60
POLL_SECONDS = 5.0


@dataclass(kw_only=True)
class Cluster:
    """The API of the cluster."""

    client: "ApiClient" = field(default_factory=partial(open_client, "KServe"))
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
        return ask(partial(self._send, method, path, body), f"{method} {path}", KIND, backoff=self.backoff, clock=self.clock)

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
