"""Launches as TrainJobs of the cluster that this pod is in. A job is created exactly once, because its name says which launch and attempt it is."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneline.errors import InfrastructureError, TunelineError, UserError
from tuneline.launching.order import Order, Try
from tuneline.launching.running import Status
from tuneline.launching.train_job import GROUP, PLURAL, VERSION, deleted, manifest, name_of, status_of
from tuneline.vertex.backoff import Backoff, Clock

if TYPE_CHECKING:
    from kubernetes.client import ApiClient, ApiException

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
PERMISSION = f"Let the pod's service account create, get and delete {PLURAL}.{GROUP} in its namespace: docs/launching.md has the role."
INSTALL_TRAINER = "Install Kubeflow Trainer v2 in the cluster, or leave accelerator_type out to tune in the task's own pod."
TIMEOUT_SECONDS = 60.0
PODS_OF = "jobset.sigs.k8s.io/jobset-name"
"""Label that the pods of a TrainJob bear, from the JobSet of the same name."""
_PASSING = {429, 500, 502, 503, 504}
"""Answers that may be different the next time. Each call here may be made twice: a second creation answers 409, a second deletion 404."""


def open_client() -> "ApiClient":
    """A client with the pod's own credentials."""
    try:
        from kubernetes import client, config
    except ModuleNotFoundError:
        raise UserError("A TrainJob needs the package kubernetes, which is not installed.", next_action="pip install 'tuneline[kubernetes]'") from None
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise UserError(f"This is no pod of a Kubernetes cluster: {error}", next_action="Run the pipeline on Kubeflow Pipelines.") from None
    return client.ApiClient(configuration)


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
        """The answer; nothing when its status is `but`, which is then no error."""
        from kubernetes.client import ApiException, CustomObjectsApi
        from urllib3.exceptions import HTTPError

        call = getattr(CustomObjectsApi(self.client), method)
        where = f"TrainJob {given.get('name', '')} in {self.namespace}"
        for seconds in (*self.backoff.waits(), None):
            try:
                answer: dict[str, Any] = call(GROUP, VERSION, self.namespace, PLURAL, _request_timeout=TIMEOUT_SECONDS, **given)
            except ApiException as error:
                if error.status == but:
                    return None
                if error.status not in _PASSING or seconds is None:
                    raise _refused(where, error) from error
            except HTTPError as error:
                if seconds is None:
                    raise InfrastructureError(f"{where}: the Kubernetes API cannot be reached: {error}", next_action="Try again.") from error
            else:
                return answer
            self.clock.sleep(seconds)
        raise AssertionError("the last try either answers or raises")


def _refused(where: str, error: "ApiException") -> TunelineError:
    """What an answer means that is no success."""
    problem = f"{where}: {error.status} {error.reason}: {_message(error.body)}"
    if error.status in (401, 403):
        return UserError(problem, next_action=PERMISSION)
    if error.status == 404:  # of a creation: there is no such kind of object
        return UserError(problem, next_action=INSTALL_TRAINER)
    return InfrastructureError(problem) if error.status in _PASSING else UserError(problem)


def _message(body: str | bytes | None) -> str:
    try:
        return str(json.loads(body or "{}")["message"])
    except (ValueError, KeyError, TypeError):  # a proxy's page
        return "no message"
