"""Launches as TrainJobs of the cluster that this pod is in. A job is created exactly once, because its name says which launch and attempt it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tuneline.kubernetes.api import Kind, ask, unless
from tuneline.launching.order import Order, Try
from tuneline.launching.running import Status
from tuneline.launching.train_job import GROUP, PLURAL, VERSION, deleted, manifest, name_of, status_of
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

KIND = Kind(
    permission=f"Let the pod's service account create, get and delete {PLURAL}.{GROUP} in its namespace: docs/launching.md has the role.",
    missing="Install Kubeflow Trainer v2 in the cluster, or leave accelerator_type out to tune in the task's own pod.",
)
TIMEOUT_SECONDS = 60.0
PODS_OF = "jobset.sigs.k8s.io/jobset-name"
"""Label that the pods of a TrainJob bear, from the JobSet of the same name."""


@dataclass(kw_only=True)
class TrainJobs:
    """The TrainJobs of a namespace."""

    client: "ApiClient"
    namespace: str
    backoff: Backoff = field(default_factory=Backoff)
    clock: Clock = field(default_factory=Clock)

    def find(self, order: Order, job: Try) -> str | None:
        name = name_of(order, job)
        return name if self._get(name) is not None else None

    def start(self, order: Order, job: Try) -> str:
        self._call("create_namespaced_custom_object", body=manifest(order, job, self.namespace), but=409)
        return name_of(order, job)

    def look(self, name: str) -> Status:
        found = self._get(name)
        return Status(state="stopped", detail="deleted", error=deleted(name)) if found is None else status_of(found)

    def stop(self, name: str) -> None:
        self._call("delete_namespaced_custom_object", name=name, propagation_policy="Foreground", but=404)

    def links(self, name: str) -> list[str]:
        kubectl = f"kubectl --namespace {self.namespace}"
        return [f"job: {kubectl} describe trainjob {name}", f"log: {kubectl} logs --selector {PODS_OF}={name}"]

    def resources(self, name: str) -> str:  # noqa: ARG002
        return ""

    def _get(self, name: str) -> dict[str, Any] | None:
        return self._call("get_namespaced_custom_object", name=name, but=404)

    def _call(self, method: str, *, but: int, **given: object) -> dict[str, Any] | None:
        """The answer; nothing when its status is `but`."""
        from kubernetes.client import CustomObjectsApi

        call = getattr(CustomObjectsApi(self.client), method)
        send: Callable[[], dict[str, Any]] = partial(call, GROUP, VERSION, self.namespace, PLURAL, _request_timeout=TIMEOUT_SECONDS, **given)
        return ask(unless({but}, send), f"TrainJob {given.get('name', '')} in {self.namespace}", KIND, backoff=self.backoff, clock=self.clock)
