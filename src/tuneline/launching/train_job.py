"""Kubeflow Trainer's TrainJob (v2) as values: the object for a launch, and what its conditions mean. Pure."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from tuneline.errors import InfrastructureError
from tuneline.launching.order import COMMAND, Order, Try
from tuneline.launching.running import Status

Manifest: TypeAlias = dict[str, Any]

GROUP, VERSION, PLURAL = "trainer.kubeflow.org", "v1alpha1", "trainjobs"
RUNTIME = "torch-distributed"
"""The ClusterTrainingRuntime that Kubeflow Trainer brings for PyTorch: it tells each machine who it is, and gives no command of its own."""
LAUNCH_LABEL = "tuneline-launch"


def name_of(order: Order, job: Try) -> str:
    """The job's name, always the same for the same launch and attempt: Kubernetes refuses a second object of a name. Short: pods get longer ones."""
    return f"tuneline-{order.key[:16]}-{job.attempt}"


def manifest(order: Order, job: Try, namespace: str) -> Manifest:
    """The TrainJob."""
    place = order.places[job.place]
    trainer: Manifest = {
        "image": order.image,
        "command": list(COMMAND),
        "args": list(order.arguments),
        "env": [{"name": name, "value": value} for name, value in order.environment(job).items()],
        "numNodes": order.replicas,
        "numProcPerNode": order.processes(place),
    }
    if place.accelerator_type:
        resource = "google.com/tpu" if place.accelerator_type.startswith("TPU") else "nvidia.com/gpu"
        amount = {resource: str(max(1, place.accelerator_count))}
        trainer["resourcesPerNode"] = {"requests": amount, "limits": amount}
    labels = {**order.labels, LAUNCH_LABEL: order.key, "app.kubernetes.io/managed-by": "tuneline"}
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "TrainJob",
        "metadata": {"name": name_of(order, job), "namespace": namespace, "labels": labels},
        "spec": {"runtimeRef": {"name": RUNTIME}, "trainer": trainer},
    }


def status_of(train_job: Mapping[str, Any]) -> Status:
    """What the conditions say. A suspended job waits, for a queue or for a person, and goes on."""
    name = train_job["metadata"]["name"]
    true = {condition["type"]: condition for condition in train_job.get("status", {}).get("conditions", ()) if condition["status"] == "True"}
    if "Complete" in true:
        return Status(state="succeeded", detail="Complete")
    if failed := true.get("Failed"):
        problem = f"TrainJob {name} failed: {failed.get('reason', '')}: {failed.get('message', '')}"
        return Status(state="failed", detail="Failed", error=InfrastructureError(problem, next_action="The log of its pods says why."))
    if train_job["metadata"].get("deletionTimestamp"):
        return Status(state="stopped", detail="being deleted", error=deleted(name))
    return Status(state="open", detail="Suspended" if "Suspended" in true else "Running" if train_job.get("status") else "Created")


def deleted(name: str) -> InfrastructureError:
    """The error of a job that is not there any more."""
    return InfrastructureError(f"TrainJob {name} was deleted.", next_action="Try again: it goes on from its newest checkpoint.")
