"""A version of a model in Vertex AI's registry, made once for each pipeline job and its bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuneline.deployment import loading_seconds, serving_image_problem
from tuneline.errors import TunelineError, UserError
from tuneline.registry.models import DEFAULT, Registration
from tuneline.vertex.artifacts import Artifact
from tuneline.vertex.lineage import model_id_of, model_name_of
from tuneline.vertex.rest import Json, OutcomeUnknown, Refused, Vertex, error_of

PORT, PREDICT_ROUTE, HEALTH_ROUTE = 8080, "/predict", "/health"
LONGEST_REQUEST_BYTES = 10_000_000
"""Of a dedicated endpoint. A shared one lets less through by itself."""
SHARED_MEMORY_MB = 16_384
"""For the processes that serve on several accelerators."""


@dataclass(frozen=True, kw_only=True)
class Upload:
    """What is registered, and as what."""

    registration: Registration
    artifact: Artifact
    alias: str
    """By which the version is found again."""
    aliases: tuple[str, ...] = ()
    """Those that the user wants."""
    parent_model: str = ""
    """Model that gets the version; empty for the one of the same display name."""
    image: str
    arguments: tuple[str, ...] = ()
    """Of the image's own command."""
    key: str = ""

    @property
    def model(self) -> str:
        """Resource name of the model, without a version."""
        registration = self.registration
        return model_name_of(project=registration.project, region=registration.location, display_name=registration.display_name, parent_model=self.parent_model)

    def to_json(self) -> Json:
        """The model as the API takes it."""
        registration = self.registration
        return {
            "displayName": registration.display_name,
            "versionDescription": f"Step {registration.step} of {registration.pipeline_job_name}",
            "versionAliases": list(dict.fromkeys([self.alias, DEFAULT, *self.aliases])),
            "labels": registration.labels,
            "artifactUri": self.artifact.uri,
            "containerSpec": container_spec(self.image, self.arguments, num_bytes=self.artifact.num_bytes),
            **({"encryptionSpec": {"kmsKeyName": self.key}} if self.key else {}),
        }


def model_id(registration: Registration) -> str:
    """The id of the model that a project and region have by a display name."""
    return model_id_of(project=registration.project, region=registration.location, display_name=registration.display_name)


def container_spec(image: str, arguments: tuple[str, ...], *, num_bytes: int) -> Json:
    """How the server of a model of this size is started."""
    return {
        "imageUri": image,
        **({"args": list(arguments)} if arguments else {}),
        "ports": [{"containerPort": PORT}],
        "predictRoute": PREDICT_ROUTE,
        "healthRoute": HEALTH_ROUTE,
        "deploymentTimeout": f"{loading_seconds(num_bytes)}s",
        "sharedMemorySizeMb": str(SHARED_MEMORY_MB),
    }


@dataclass(frozen=True, kw_only=True)
class UploadVersion:
    """The upload as an action for `tuneline.vertex.once`; the result is the version's resource name."""

    vertex: Vertex
    upload: Upload

    def look_up(self) -> str:
        found = self.vertex.find(f"{self.upload.model}@{self.upload.alias}")
        return f"{self.upload.model}@{found['versionId']}" if found else ""

    def call(self) -> str:
        """Begin a model or, where there is one, its next version. The API itself accepts the first version once only."""
        if self.upload.parent_model or self.vertex.find(self.upload.model):
            return self._begin({"parentModel": self.upload.model})
        try:
            return self._begin({"modelId": self.upload.model.rpartition("/")[2]})
        except Refused as refusal:
            if refusal.status != "ALREADY_EXISTS":
                raise
        # Somebody was faster. When it was another job, its version is the first; what does not show yet may be our own.
        first = self.vertex.find(f"{self.upload.model}@1")
        if first is None or self.upload.alias in first.get("versionAliases", []):
            raise OutcomeUnknown(f"{self.upload.model} is just being made.")
        return self._begin({"parentModel": self.upload.model})

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        ended = self.vertex.ended({"name": operation}, each_time=beat)
        if "error" in ended:
            return error_of(ended["error"], f"models:upload of {self.upload.artifact.uri}")
        return f"{self.upload.model}@{ended['response']['modelVersionId']}"

    def _begin(self, place: Mapping[str, Any]) -> str:
        location = self.upload.model.partition("/models/")[0]
        return str(self.vertex.post(f"{location}/models:upload", {"model": self.upload.to_json(), **place})["name"])


def check_image(image: str) -> None:
    """Raise UserError for an image that Vertex AI cannot pull."""
    if problem := serving_image_problem(image):
        action = "Push the predictor's image there and give its URI, or point the template at your registry (docs/images.md)."
        raise UserError(problem, next_action=action)
