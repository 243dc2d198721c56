"""Messages of `models`."""

from typing import Any

from pydantic import Field

from tuneline.api.resources.pipeline_jobs import EncryptionSpec
from tuneline.api.wire import Labels, Message, Struct

MAX_NAME = 128
Name = Field(default="", max_length=MAX_NAME, pattern=r"^[^\x00-\x1f]*$")
"""A display name."""


class Model(Message):
    """The model as a client sends it. Fields that the service fills in are accepted and not read: clients send back what they got."""

    display_name: str = Name
    description: str = ""
    version_description: str = ""
    version_aliases: list[str] = []
    labels: Labels = {}
    artifact_uri: str = ""
    container_spec: Struct = {}
    predict_schemata: Struct = {}
    explanation_spec: Struct = {}
    encryption_spec: EncryptionSpec = EncryptionSpec()
    metadata_schema_uri: str = ""
    metadata: Any = None
    training_pipeline: str = ""
    pipeline_job: str = ""
    base_model_source: Struct = {}
    default_checkpoint_id: str = ""
    name: str = ""
    version_id: str = ""
    version_create_time: str = ""
    version_update_time: str = ""
    create_time: str = ""
    update_time: str = ""
    supported_export_formats: list[Struct] = []
    supported_deployment_resources_types: list[str | int] = []
    supported_input_storage_formats: list[str] = []
    supported_output_storage_formats: list[str] = []
    deployed_models: list[Struct] = []
    checkpoints: list[Struct] = []
    data_stats: Struct = {}
    model_source_info: Struct = {}
    original_model_info: Struct = {}
    metadata_artifact: str = ""
    satisfies_pzs: bool = False
    satisfies_pzi: bool = False
    etag: str = ""


RECORDED = frozenset({
    "displayName", "description", "versionDescription", "versionAliases", "labels", "artifactUri", "containerSpec", "predictSchemata", "explanationSpec",
    "encryptionSpec", "metadataSchemaUri", "metadata", "trainingPipeline", "pipelineJob", "baseModelSource", "defaultCheckpointId",
})  # fmt: skip
"""What is kept of an uploaded model."""


class UploadModelRequest(Message):
    """Body of `models:upload`."""

    parent: str = ""
    model: Model
    model_id: str = ""
    parent_model: str = ""
    service_account: str = ""


class MergeVersionAliasesRequest(Message):
    """Body of `:mergeVersionAliases`: aliases to add, and with a dash in front those to take away."""

    name: str = ""
    version_aliases: list[str]
