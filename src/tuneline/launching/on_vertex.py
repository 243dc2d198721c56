"""Launches as custom jobs of Vertex AI, each created exactly once by a claim beside its outputs."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tuneline.errors import CapacityError, InfrastructureError, NotFoundError, UserError
from tuneline.launching.order import COMMAND, Order, Try
from tuneline.launching.running import Status
from tuneline.storage import join
from tuneline.vertex.backoff import Clock
from tuneline.vertex.custom_jobs import LAUNCH_LABEL, Container, failure_of, pages, request, state_of
from tuneline.vertex.once import Claim, ClaimStore, Once
from tuneline.vertex.rest import Json, Vertex

PROJECTS = ("CLOUD_ML_PROJECT_ID", "GOOGLE_CLOUD_PROJECT")
"""Environment variables with the project: Vertex sets the first in its containers, where Google's default would be a project of its own."""


def project_of(environment: Mapping[str, str]) -> str:
    """The project whose job this is."""
    found = next((environment[name] for name in PROJECTS if environment.get(name)), "")
    if not found:
        raise UserError(f"{' and '.join(PROJECTS)} are not set; expected the project that the job belongs to.", next_action=f"Set {PROJECTS[1]}.")
    return found


@dataclass(kw_only=True)
class CustomJobs:
    """The jobs of a project."""

    project: str
    store: ClaimStore
    region: Callable[[str], Vertex]
    """Region -> its API."""
    clock: Clock = field(default_factory=Clock)

    def find(self, order: Order, job: Try) -> str | None:
        found = self.store.read(_claim(order, job))
        claim = Claim(**json.loads(found[0])) if found else None
        if claim is None or claim.stage == "FREE":
            return None
        return claim.result or claim.operation or self._creation(order, job).look_up()

    def start(self, order: Order, job: Try) -> str:
        return Once(store=self.store, clock=self.clock).do(_claim(order, job), self._creation(order, job))

    def look(self, name: str) -> Status:
        try:
            found = self._api(name).get(name)
        except NotFoundError:
            return Status(state="stopped", detail="deleted", error=UserError(f"{name} was deleted.", next_action="Run the pipeline again."))
        state = state_of(found)
        return Status(state=state, detail=str(found.get("state", "")), error=None if state in ("open", "succeeded") else failure_of(found))

    def stop(self, name: str) -> None:
        self._api(name).post(f"{name}:cancel", {}, is_repeatable=True)

    def links(self, name: str) -> list[str]:
        own = self._api(name).address.endswith(".googleapis.com")
        return [f"{what}: {address}" for what, address in (pages(name) if own else {"job": self._uri(name)}).items()]

    def resources(self, name: str) -> str:
        return json.dumps({"resources": [{"resourceType": "CustomJob", "resourceUri": self._uri(name)}]})

    def _uri(self, name: str) -> str:
        api = self._api(name)
        return f"{api.address}/{api.version}/{name}"

    def _api(self, name: str) -> Vertex:
        return self.region(name.split("/")[3])

    def _creation(self, order: Order, job: Try) -> "_Creation":
        place = order.places[job.place]
        launch = f"{order.key}-{job.name}"
        container = Container(image=order.image, command=COMMAND, arguments=order.arguments, environment=order.environment(job))
        body = request(
            f"tuneline {order.step} {launch}", container, place, order.settings, replicas=order.replicas, labels={**order.labels, LAUNCH_LABEL: launch},
            output_folder=order.folder(job),
        )  # fmt: skip
        return _Creation(api=self.region(place.region), jobs=f"projects/{self.project}/locations/{place.region}/customJobs", body=body, launch=launch)


@dataclass(frozen=True, kw_only=True)
class _Creation:
    """Creating a job, as what is to be done once. The job is there as soon as the call is answered."""

    api: Vertex
    jobs: str
    body: Json
    launch: str

    def look_up(self) -> str:
        try:
            return next((str(found["name"]) for found in self.api.list(self.jobs, filter=f'labels.{LAUNCH_LABEL}="{self.launch}"')), "")
        except CapacityError as error:  # of the API's own quota, which says nothing of the job
            raise InfrastructureError(*error.problems) from error

    def call(self) -> str:
        return str(self.api.post(self.jobs, self.body)["name"])

    def finish(self, operation: str, beat: Callable[[], None]) -> str:  # noqa: ARG002
        return operation


def _claim(order: Order, job: Try) -> str:
    return join(order.folder(job), "claim.json")
