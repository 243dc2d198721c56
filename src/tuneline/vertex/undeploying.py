"""A model's time on its endpoint: a schedule that fires once, whose job takes the model off when its time is over."""

from collections.abc import Callable
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
NOT_ALLOWED = "Give the job's account aiplatform.schedules.create, or set undeploy_after_hours to 0 and take the model off yourself."


@dataclass(frozen=True, kw_only=True)
class Timer:
    """What is to be taken off, and when."""

    endpoint: str
    """Resource name."""
    deployed_model_id: str
    due: datetime

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
        found = self.vertex.list(self._collection, filter=f'display_name="{wanted}"')
        return next((str(schedule["name"]) for schedule in found if schedule.get("displayName") == wanted), "")

    def call(self) -> str:
        try:
            return str(self.vertex.post(self._collection, self.body)["name"])
        except Refused as refusal:
            if refusal.status == "PERMISSION_DENIED":
                raise UserError(f"undeploy_after_hours: {refusal}", next_action=NOT_ALLOWED) from refusal
            raise

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:  # noqa: ARG002
        return operation


def undeploy_when_due(vertex: Vertex, endpoint: str, deployed_model_id: str, now: datetime) -> bool:
    """Take the model off its endpoint, unless somebody gave it more time, or for ever. Whether it was taken off."""
    due = expiry.expires_at((vertex.find(endpoint) or {}).get("labels", {}), deployed_model_id)
    return due is not None and due <= now and take_off(vertex, endpoint, deployed_model_id)


def take_off(vertex: Vertex, endpoint: str, deployed_model_id: str) -> bool:
    """Take a model off its endpoint, with the label that tells its time. Whether it was there."""
    was_there = endpoints.undeploy(vertex, endpoint, deployed_model_id)
    endpoints.label(vertex, endpoint, lambda labels: expiry.without(labels, deployed_model_id))
    return was_there


def note_time(vertex: Vertex, endpoint: str, deployed_model_id: str, hours: int) -> Timer:
    """Label the endpoint with the time at which the model's is over. A time that is there already, of an earlier attempt, stays."""
    wanted = expiry.labels_of(deployed_model_id, hours, datetime.now(UTC))
    labels = endpoints.label(vertex, endpoint, lambda found: {**wanted, **found})
    due = expiry.expires_at(labels, deployed_model_id)
    if due is None:
        raise UserError(f"{endpoint}: the label {expiry.PREFIX}{deployed_model_id} is no time.", next_action="Take the label away, and try again.")
    return Timer(endpoint=endpoint, deployed_model_id=deployed_model_id, due=due)
