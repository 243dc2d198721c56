"""A model's time on its endpoint: a schedule that fires once, whose job takes the model off when its time is over."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tuneline.errors import TunelineError, UserError
from tuneline.remote_schedule import Timing
from tuneline.templates import FOLDER, load, replace_template_images
from tuneline.vertex import endpoints, expiry
from tuneline.vertex.job_request import JobOptions, job_request
from tuneline.vertex.rest import Json, Refused, Vertex
from tuneline.vertex.schedules import schedule_body

TEMPLATE = FOLDER / "components" / "undeploy_model.yaml"
NOT_ALLOWED = "Give the account what docs/images.md names for undeploy_after_hours, or set that to 0 and take the model off yourself."
SOON = timedelta(minutes=2)
"""A time that is nearer than this is over before a schedule can be made."""
PATIENCE_SECONDS = 1800.0
"""How long the schedule's job tries, while other operations change the endpoint: it is the only one."""


@dataclass(frozen=True, kw_only=True)
class Timer:
    """What is to be taken off, and when."""

    endpoint: str
    """Resource name."""
    deployed_model_id: str
    due: datetime

    @property
    def claim(self) -> str:
        """Name of the claim to make it. Another time is another timer."""
        return f"undeploy-{self.deployed_model_id}-{self.due:%Y%m%dt%H%M%Sz}"

    @property
    def display_name(self) -> str:
        return f"undeploy {self.deployed_model_id} at {self.due:%Y-%m-%dT%H:%M:%SZ}"

    def to_json(self, region: str, *, root: str, image: str, service_account: str, now: datetime) -> Json:
        """The schedule in the pipeline's region as the API takes it. Cron knows no years, so what is due later than in a day begins a day before."""
        minute = self.due + timedelta(seconds=-self.due.second % 60)  # not before it is due
        day_before = minute - timedelta(days=1)
        template = replace_template_images(load(str(TEMPLATE)), image)
        values = {"endpoint_resource_name": self.endpoint, "deployed_model_id": self.deployed_model_id}
        options = JobOptions(
            project=self.endpoint.split("/")[1], region=region, pipeline_root=root, service_account=service_account, has_caching=False,
        )  # fmt: skip
        timing = Timing(
            cron=f"TZ=UTC {minute.minute} {minute.hour} {minute.day} {minute.month} *",
            max_runs=1,
            start_time=f"{day_before:%Y-%m-%dT%H:%M:%SZ}" if day_before > now else "",
        )
        return schedule_body(self.display_name, timing, job_request(template, values, options, moment=now))


@dataclass(frozen=True, kw_only=True)
class CreateTimer:
    """The schedule as an action for `tuneline.vertex.once`; the result is its resource name. The API gives it its id."""

    vertex: Vertex
    body: Json

    @property
    def _collection(self) -> str:
        return f"{self.body['createPipelineJobRequest']['parent']}/schedules"

    def look_up(self) -> str:
        wanted = self.body["displayName"]
        with _told():
            found = list(self.vertex.list(self._collection, filter=f'display_name="{wanted}"'))
        return next((str(schedule["name"]) for schedule in found if schedule.get("displayName") == wanted), "")

    def call(self) -> str:
        with _told():
            return str(self.vertex.post(self._collection, self.body)["name"])

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:  # noqa: ARG002
        return operation


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """What a missing permission means here."""
    try:
        yield
    except Refused as refusal:
        if refusal.status == "PERMISSION_DENIED":
            raise UserError(f"undeploy_after_hours: {refusal}", next_action=NOT_ALLOWED) from refusal
        raise


def arm(vertex: Vertex, endpoint: str, deployed_model_id: str, hours: int) -> Timer | None:
    """Label the endpoint with the time at which the model's is over; nothing for a deployed model whose label somebody took away.

    A time to come, which an earlier attempt gave, stays. One that is over is given anew: a timer for it has fired, and found nothing to take off.
    """
    now, found = datetime.now(UTC), vertex.get(endpoint)
    on_endpoint = [str(deployed["id"]) for deployed in found.get("deployedModels", [])]
    if deployed_model_id in on_endpoint and expiry.expires_at(found.get("labels", {}), deployed_model_id) is None:
        return None

    def timed(labels: dict[str, str]) -> dict[str, str]:
        due = expiry.expires_at(labels, deployed_model_id)
        fresh = {} if due and due > now + SOON else expiry.labels_of(deployed_model_id, hours, now)
        return {**expiry.without_old(labels, on_endpoint, now), **fresh}

    due = expiry.expires_at(endpoints.label(vertex, endpoint, timed), deployed_model_id)
    return Timer(endpoint=endpoint, deployed_model_id=deployed_model_id, due=due) if due else None


def undeploy_when_due(vertex: Vertex, endpoint: str, deployed_model_id: str, now: datetime) -> bool:
    """Take the model off its endpoint, unless somebody gave it more time, or for ever. Whether it was taken off."""
    due = expiry.expires_at((vertex.find(endpoint) or {}).get("labels", {}), deployed_model_id)
    return due is not None and due <= now and take_off(vertex, endpoint, deployed_model_id, patience_seconds=PATIENCE_SECONDS)


def take_off(vertex: Vertex, endpoint: str, deployed_model_id: str, *, patience_seconds: float = 60.0) -> bool:
    """Take a model off its endpoint, with the label that tells its time. Whether it was there: the label of one that is still to come stays."""
    was_there = endpoints.undeploy(vertex, endpoint, deployed_model_id, patience_seconds=patience_seconds)
    if was_there:
        endpoints.label(vertex, endpoint, lambda labels: expiry.without(labels, deployed_model_id))
    return was_there
