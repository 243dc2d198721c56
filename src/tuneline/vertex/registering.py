"""upload-model on Vertex AI: from the checkpoint in Cloud Storage to a registered version with its evaluation and its curves.

Every part is done once for a pipeline job and its bytes, or is as good twice as once, so that the task can be tried again wherever it ended.
"""

import logging
from datetime import UTC, datetime

from tuneline.deployment import aliases_in
from tuneline.parameters import UploadModel
from tuneline.registry.models import Registered, Registration, record_of
from tuneline.resolution import Resolved
from tuneline.vertex import model_evaluations, tensorboards
from tuneline.vertex.artifacts import Artifact, bring_near, open_artifact, run_alias
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.model_upload import LONGEST_REQUEST_BYTES, Upload, UploadVersion, check_image, model_id

LOG = logging.getLogger(__name__)
SETTLE_SECONDS = 600.0
"""A version shows once its operation has ended, and nothing tells of the operation when the answer to the call was lost."""


def register_on_vertex(
    cloud: Cloud, checkpoint: str, registration: Registration, parameters: UploadModel, resolved: Resolved, *, serving_image: str, history: str
) -> Registered:  # fmt: skip
    """Register the checkpoint at a gs:// URI in the upload region. `history` is the text of a history.json."""
    image = parameters.serving_container_image_uri or serving_image
    check_image(image)
    origin = open_artifact(cloud.objects, checkpoint)
    alias = run_alias(registration.pipeline_job_name, origin.files)
    artifact = bring_near(
        cloud.objects, origin, root=parameters.model_output_root_dir, folder=f"{model_id(registration)}/{alias}",
        project=registration.project, region=resolved.upload_region, key=parameters.encryption_spec_key_name,
    )  # fmt: skip
    upload = Upload(
        registration=registration, artifact=artifact, alias=alias, aliases=aliases_in(parameters.version_aliases), parent_model=parameters.parent_model,
        image=image, arguments=() if parameters.serving_container_image_uri else ("--max-body-bytes", str(LONGEST_REQUEST_BYTES)),
        key=parameters.encryption_spec_key_name,
    )  # fmt: skip
    vertex = cloud.vertex(resolved.upload_region)
    claim = origin.claim(f"{alias}-{upload.model.rpartition('/')[2]}")
    name = cloud.once(claim, UploadVersion(vertex=vertex, upload=upload), settle_seconds=SETTLE_SECONDS)
    LOG.info("registered model=%s files=%s", name, artifact.uri)
    _import_evaluation(cloud, origin, registration, model=name, alias=alias, region=resolved.upload_region)
    if parameters.tensorboard_resource_id:
        _write_curves(cloud, registration, parameters.tensorboard_resource_id, history, region=resolved.pipeline_region)
    model = vertex.get(name)
    record = record_of(
        registration, name=upload.model, version_id=name.rpartition("@")[2], aliases=model.get("versionAliases", []),
        create_time=str(model.get("versionCreateTime", "")), artifact_uri=artifact.uri, files=artifact.files,
    )  # fmt: skip
    return Registered(resource_name=name, record=record)


def _import_evaluation(cloud: Cloud, origin: Artifact, registration: Registration, *, model: str, alias: str, region: str) -> None:
    if not model_evaluations.schema_metrics(registration.metrics):
        return
    evaluation = model_evaluations.ImportEvaluation(
        vertex=cloud.vertex(region), model=model, name=alias, metrics=registration.metrics, pipeline_job_name=registration.pipeline_job_name
    )  # fmt: skip
    LOG.info("evaluation=%s", cloud.once(origin.claim(f"{alias}-{model.rpartition('/')[2]}-evaluation"), evaluation))


def _write_curves(cloud: Cloud, registration: Registration, tensorboard: str, history: str, *, region: str) -> None:
    run = tensorboards.write_history(
        cloud.vertex(region), tensorboard, tensorboards.points_of(history), model_id=model_id(registration), model=registration.display_name,
        run=registration.pipeline_job_name, moment=datetime.now(UTC).isoformat(timespec="seconds"),
    )  # fmt: skip
    LOG.info("curves=%s", run)
