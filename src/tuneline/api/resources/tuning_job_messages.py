"""What a client of `tuningJobs` sends. Every field of v1 and v1beta1 is known, so that what cannot be done here is refused by its name."""

from typing import Annotated, Any

from pydantic import BeforeValidator, model_validator

from tuneline.api.resources.pipeline_jobs import EncryptionSpec
from tuneline.api.wire import Int64, Labels, Message, Struct, no_truth_value, proto_enum

FULL, PEFT_ADAPTER = "TUNING_MODE_FULL", "TUNING_MODE_PEFT_ADAPTER"
NO_MODE, NO_SIZE = "TUNING_MODE_UNSPECIFIED", "ADAPTER_SIZE_UNSPECIFIED"

TuningMode = Annotated[str, proto_enum(TUNING_MODE_UNSPECIFIED=0, TUNING_MODE_FULL=1, TUNING_MODE_PEFT_ADAPTER=2)]
AdapterSize = Annotated[str, proto_enum(
    ADAPTER_SIZE_UNSPECIFIED=0, ADAPTER_SIZE_ONE=1, ADAPTER_SIZE_FOUR=2, ADAPTER_SIZE_EIGHT=3, ADAPTER_SIZE_SIXTEEN=4, ADAPTER_SIZE_THIRTY_TWO=5,
    ADAPTER_SIZE_TWO=6,
)]  # fmt: skip


Double = Annotated[float, BeforeValidator(no_truth_value)]


class TuningMessage(Message):
    """A message in which `null` means that nothing was sent."""

    @model_validator(mode="before")
    @classmethod
    def without_nulls(cls, values: Any) -> Any:
        return {key: value for key, value in values.items() if value is not None} if isinstance(values, dict) else values


class HyperParameters(TuningMessage):
    """How long and how fast the model learns; what is not given is recommended by the service."""

    epoch_count: Int64 | None = None
    learning_rate_multiplier: Double | None = None
    learning_rate: Double | None = None
    adapter_size: AdapterSize = NO_SIZE
    batch_size: Int64 | None = None


class SupervisedTuningSpec(TuningMessage):
    """Tuning on examples of prompts and answers."""

    training_dataset_uri: str = ""
    validation_dataset_uri: str = ""
    hyper_parameters: HyperParameters = HyperParameters()
    tuning_mode: TuningMode = NO_MODE
    export_last_checkpoint_only: bool = False
    evaluation_config: Struct = {}


class PreTunedModel(TuningMessage):
    """A tuned model that is tuned further."""

    tuned_model_name: str = ""
    checkpoint_id: str = ""
    base_model: str = ""
    """Filled in by the service."""


class TuningJob(TuningMessage):
    """The job. Fields that the service fills in are accepted and not read: clients send back what they got."""

    base_model: str = ""
    pre_tuned_model: PreTunedModel | None = None
    custom_base_model: str = ""
    supervised_tuning_spec: SupervisedTuningSpec | None = None
    tuned_model_display_name: str = ""
    description: str = ""
    labels: Labels = {}
    encryption_spec: EncryptionSpec = EncryptionSpec()
    service_account: str = ""
    output_uri: str = ""

    distillation_spec: Struct = {}
    partner_model_tuning_spec: Struct = {}
    preference_optimization_spec: Struct = {}
    reinforcement_tuning_spec: Struct = {}
    full_fine_tuning_spec: Struct = {}
    veo_tuning_spec: Struct = {}
    veo_lora_tuning_spec: Struct = {}
    evaluation_config: Struct = {}

    name: str = ""
    state: str | int = ""
    create_time: str = ""
    start_time: str = ""
    end_time: str = ""
    update_time: str = ""
    error: Struct = {}
    experiment: str = ""
    tuned_model: Struct = {}
    tuning_data_stats: Struct = {}
    pipeline_job: str = ""
    evaluate_dataset_runs: list[Struct] = []
    tuning_job_state: str | int = ""
    tuning_job_metadata: Struct = {}


FILLED_IN = frozenset({
    "name", "state", "createTime", "startTime", "endTime", "updateTime", "error", "experiment", "tunedModel", "tuningDataStats", "pipelineJob",
    "evaluateDatasetRuns", "tuningJobState", "tuningJobMetadata",
})  # fmt: skip
"""Fields of a job that only the service writes."""
OTHER_SPECS = (
    "distillation_spec", "partner_model_tuning_spec", "preference_optimization_spec", "reinforcement_tuning_spec", "full_fine_tuning_spec",
    "veo_tuning_spec", "veo_lora_tuning_spec",
)  # fmt: skip
"""Ways of tuning that this service does not have."""


class TunedModelRef(TuningMessage):
    """A tuned model, by one of the three names that it has."""

    tuned_model: str = ""
    tuning_job: str = ""
    pipeline_job: str = ""


class GcsDestination(TuningMessage):
    """Where files go."""

    output_uri_prefix: str = ""


class RebaseTunedModelRequest(TuningMessage):
    """The request of `tuningJobs:rebaseTunedModel`."""

    parent: str = ""
    tuned_model_ref: TunedModelRef = TunedModelRef()
    tuning_job: TuningJob | None = None
    """Fields that are to differ from the old job's."""
    artifact_destination: GcsDestination = GcsDestination()
    deploy_to_same_endpoint: bool = False
