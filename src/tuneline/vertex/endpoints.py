"""An endpoint of Vertex AI and a model version on it, each made once. Names follow from what they are for, so that the API itself refuses a second one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tuneline.errors import CapacityError, InfrastructureError, NotFoundError, TunelineError
from tuneline.registry import resource_id
from tuneline.resolution import Machine
from tuneline.vertex import traffic
from tuneline.vertex.rest import Json, OutcomeUnknown, Refused, Vertex, error_of

NO_MACHINE = "Ask for quota, wait, or give another serving_machine_type or location."
MOST_EDITS = 5
"""Tries to change an endpoint that others change, too."""
CHANGING = ("ABORTED", "FAILED_PRECONDITION")
"""Refusals while another operation changes the endpoint."""
CHANGING_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What is deployed, and where."""

    model: str
    """With its version."""
    display_name: str
    endpoint: str
    """Resource name."""
    machine: Machine
    min_replica_count: int = 1
    max_replica_count: int = 1
    spot: bool = False
    traffic_percentage: int = traffic.WHOLE
    service_account: str = ""

    @property
    def deployed_model_id(self) -> str:
        """Up to ten digits are allowed."""
        return str(10**9 + int(resource_id(self.endpoint, self.model)) % (9 * 10**9))

    def to_json(self) -> Json:
        """The deployed model as the API takes it."""
        machine = self.machine
        accelerators = {"acceleratorType": machine.accelerator_type, "acceleratorCount": machine.accelerator_count} if machine.accelerator_count else {}
        return {
            "id": self.deployed_model_id,
            "model": self.model,
            "displayName": self.display_name,
            "dedicatedResources": {
                "machineSpec": {"machineType": machine.machine_type, **accelerators},
                "minReplicaCount": self.min_replica_count,
                "maxReplicaCount": self.max_replica_count,
                **({"spot": True} if self.spot else {}),
            },
            **({"serviceAccount": self.service_account} if self.service_account else {}),
        }

    def is_done_by(self, deployed: Mapping[str, object]) -> bool:
        """Whether a deployed model is this one: the same version, whatever it is called there. Names have the project's number in the place of its id."""
        model, _, version = self.model.rpartition("@")
        found, _, named = str(deployed.get("model", "")).partition("@")
        return found.rpartition("/")[2] == model.rpartition("/")[2] and version in (deployed.get("modelVersionId"), named)


def endpoint_name(project: str, region: str, display_name: str) -> str:
    """The endpoint that a project and region have by a display name."""
    return f"projects/{project}/locations/{region}/endpoints/tuneline-{resource_id(project, region, display_name)}"


@dataclass(frozen=True, kw_only=True)
class CreateEndpoint:
    """The endpoint as an action for `tuneline.vertex.once`; the result is its resource name."""

    vertex: Vertex
    name: str
    body: Json

    def look_up(self) -> str:
        return self.name if self.vertex.find(self.name) else ""

    def call(self) -> str:
        location, _, own_id = self.name.partition("/endpoints/")
        try:
            return str(self.vertex.post(f"{location}/endpoints", self.body, params={"endpointId": own_id})["name"])
        except Refused as refusal:
            if refusal.status == "ALREADY_EXISTS":
                raise OutcomeUnknown(f"{self.name} is just being made.") from refusal
            raise

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        ended = self.vertex.ended({"name": operation}, each_time=beat)
        return error_of(ended["error"], f"creation of {self.name}") if "error" in ended else self.name


@dataclass(frozen=True, kw_only=True)
class DeployModel:
    """The deployment as an action for `tuneline.vertex.once`; the result is the deployed model's id."""

    vertex: Vertex
    deployment: Deployment

    def look_up(self) -> str:
        endpoint = self.vertex.get(self.deployment.endpoint)
        return next((str(deployed["id"]) for deployed in endpoint.get("deployedModels", []) if self.deployment.is_done_by(deployed)), "")

    def call(self) -> str:
        endpoint = self.vertex.get(self.deployment.endpoint)
        split = traffic.with_new(endpoint.get("trafficSplit", {}), self.deployment.traffic_percentage)
        body = {"deployedModel": self.deployment.to_json(), "trafficSplit": split}
        try:
            return str(self.vertex.post(f"{self.deployment.endpoint}:deployModel", body)["name"])
        except CapacityError as error:
            raise CapacityError(*error.problems, next_action=NO_MACHINE) from error

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        ended = self.vertex.ended({"name": operation}, each_time=beat)
        if "error" not in ended:
            return self.deployment.deployed_model_id
        error = error_of(ended["error"], f"deployment of {self.deployment.model} on {self.deployment.endpoint}")
        return CapacityError(*error.problems, next_action=NO_MACHINE) if isinstance(error, CapacityError) else error


def label(vertex: Vertex, endpoint: str, change: Callable[[dict[str, str]], dict[str, str]]) -> dict[str, str]:
    """Change an endpoint's labels, and do it again when somebody else has changed the endpoint meanwhile; the labels."""
    for _ in range(MOST_EDITS):
        found = vertex.get(endpoint)
        labels = found.get("labels", {})
        changed = change(labels)
        if changed == labels:
            return changed
        etag = {"etag": found["etag"]} if "etag" in found else {}
        try:
            vertex.patch(endpoint, {"labels": changed, **etag}, update_mask="labels")
        except Refused as refusal:
            if refusal.status not in CHANGING:
                raise
        else:
            return changed
    raise OutcomeUnknown(f"{endpoint}: its labels are changed by somebody else all the time.")


def undeploy(vertex: Vertex, endpoint: str, deployed_model_id: str, *, patience_seconds: float = 60.0) -> bool:
    """Take a model off its endpoint and wait until its machines are gone. Whether it was there.

    Tried again for so long while answers are lost or the endpoint is being changed otherwise, each time from its state then.
    """
    until, was_there = vertex.clock.now() + patience_seconds, False
    while True:
        found = vertex.find(endpoint) or {}
        shares = {str(deployed["id"]): found.get("trafficSplit", {}).get(deployed["id"], 0) for deployed in found.get("deployedModels", [])}
        if deployed_model_id not in shares:
            return was_there
        was_there, split = True, traffic.without(shares, deployed_model_id)
        body = {"deployedModelId": deployed_model_id, **({"trafficSplit": split} if split else {})}
        try:
            vertex.wait(vertex.post(f"{endpoint}:undeployModel", body))
        except (InfrastructureError, Refused) as error:
            may_pass = not isinstance(error, Refused) or error.status in CHANGING
            if not may_pass or vertex.clock.now() >= until:
                raise
            vertex.clock.sleep(CHANGING_SECONDS)
        else:
            return True


def require(vertex: Vertex, endpoint: str) -> None:
    """Raise NotFoundError unless the endpoint is there."""
    if vertex.find(endpoint) is None:
        raise NotFoundError(f"target_endpoint: there is no {endpoint}.", next_action="Check the spelling, or leave it out: the model then gets one of its own.")
