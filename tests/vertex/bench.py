"""What the tests of registering and deploying on Vertex AI share: a job's values, and a project with its checkpoint or its model."""

import json
from dataclasses import replace
from typing import Any

from tests.vertex.fake_cloud import FakeObjects, FakeVertex, checkpoint, cloud_of
from tests.vertex.stub_api import FakeTime
from tuneline.parameters import DeployModel, UploadModel
from tuneline.registry.models import Registered, Registration
from tuneline.resolution import JobSettings, Limits, Machine, Resolved, ResolvedModel
from tuneline.vertex.artifacts import open_artifact
from tuneline.vertex.deploying import deploy_on_vertex
from tuneline.vertex.registering import register_on_vertex
from tuneline.vertex.rest import Json

IMAGE = "europe-docker.pkg.dev/acme/tuneline/predictor:0.1.0"
BASE_IMAGE = "europe-docker.pkg.dev/acme/tuneline/base:0.1.0"
KEY = "projects/acme/locations/us-central1/keyRings/r/cryptoKeys/k"
LOCATION = "projects/acme/locations/us-central1"
A_ENDPOINT = f"{LOCATION}/endpoints/shared"
L4 = Machine(region="us-central1", machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1)
TENSORBOARD = f"{LOCATION}/tensorboards/7"
BASE = ResolvedModel(reference="code-bison@002", stands_in="qwen/qwen3@qwen3-8b", uri="hf://Qwen/Qwen3-8B", max_sequence_length=256, learning_rate=1e-3)
RESOLVED = Resolved(
    backend="vertex", pipeline_region="us-central1", upload_region="us-central1", tuning_region="us-central1", machine_type="a2-ultragpu-8g",
    accelerator_type="NVIDIA_A100_80GB", accelerator_count=8, batch_size=8, base_model=BASE, limits=Limits(), reasons=(),
)  # fmt: skip
REGISTRATION = Registration(
    project="acme", location="us-central1", display_name="our model", pipeline_job_name="tune-large-model-1", base_model="code-bison@002",
    stands_in="qwen/qwen3@qwen3-8b", step=20, metrics={"loss": 1.5, "rouge_l": 0.25}, data_fingerprint="ab" * 32, resource={"labels": {"team": "code"}},
)  # fmt: skip
POINT = {"total_loss": 2.0, "fraction_of_correct_next_step_preds": 0.5, "num_predictions": 30}
HISTORY = json.dumps({"train": [{"step": 1, **POINT}, {"step": 2, **POINT, "total_loss": None}], "eval": [{"step": 2, **POINT, "total_loss": 1.75}]})


class World:
    """A project with one whole checkpoint."""

    def __init__(self) -> None:
        self.time, self.objects = FakeTime(), FakeObjects()
        self.api = FakeVertex(lambda: self.time.moment)
        self.uri = checkpoint(self.objects)

    def register(self, registration: Registration = REGISTRATION, *, uri: str = "", resolved: Resolved = RESOLVED, **parameters: Any) -> Registered:
        given = UploadModel(**{"project": "acme", "model_display_name": registration.display_name, **parameters})
        cloud = cloud_of(self.api, self.objects, self.time.clock)
        return register_on_vertex(cloud, uri or self.uri, registration, given, resolved, serving_image=IMAGE, history=HISTORY)

    def job(self, number: int, **parameters: Any) -> Registered:
        return self.register(replace(REGISTRATION, pipeline_job_name=f"tune-large-model-{number}"), **parameters)


class Deploying(World):
    """A project with one registered model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = self.register().resource_name
        self.api.requests.clear()

    def deploy(self, model: str = "", *, machine: Machine = L4, labels: dict[str, str] | None = None, **parameters: Any) -> Json:
        given = DeployModel(**{"project": "acme", "model_display_name": "our model", "deploy_model": True, **parameters})
        cloud = cloud_of(self.api, self.objects, self.time.clock)
        resolved = replace(RESOLVED, job=JobSettings(service_account="server@acme.iam.gserviceaccount.com"))
        origin = open_artifact(self.objects, self.uri)
        return deploy_on_vertex(cloud, model or self.model, origin, given, resolved, machine=machine, labels=labels or {}, undeploy_image=BASE_IMAGE)

    def has_endpoint(self, **deployed: int) -> str:
        """An endpoint with other models and their shares."""
        models = [{"id": key.removeprefix("id"), "model": f"{LOCATION}/models/other", "modelVersionId": "1"} for key in deployed]
        split = {key.removeprefix("id"): share for key, share in deployed.items()}
        self.api.endpoints[A_ENDPOINT] = {"name": A_ENDPOINT, "displayName": "shared", "deployedModels": models, "trafficSplit": split, "etag": "1"}
        return A_ENDPOINT
