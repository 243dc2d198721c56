"""Every pipeline parameter, written once: name, type, default, meaning. Grouped by the step that reads it.

The names, types and defaults of the hosted templates are kept to the letter (`project` to `api_endpoint`); parameters of our own
say so. An empty string, 0 or -1 means "not set". Groups are inert: in a pipeline body the fields hold KFP channels, so all
checks are in `validation.py`.
"""

from dataclasses import dataclass
from typing import Literal

DATA_URIS = ("dataset_uri", "evaluation_data_uri", "general_data_uri")
"""Parameters that name a file of examples."""
IMAGE_URIS = ("tuning_image_uri", "serving_container_image_uri")
"""Parameters that name a container image."""


@dataclass(frozen=True, kw_only=True)
class TransformDataset:
    """Where the examples are and how they become tokens."""

    dataset_uri: str = ""
    """Training examples: a JSONL file at a gs:// URI or a path."""
    evaluation_data_uri: str = ""
    """Evaluation examples (10 to 250 for the hosted model references): a JSONL file at a gs:// URI or a path."""
    default_context: str = ""
    """Context (system instruction) of every example that brings none of its own."""
    general_data_uri: str = ""
    """Examples of what the model must not forget: a JSONL file at a gs:// URI or a path. Needs champion_gate. Ours."""
    overlength_policy: Literal["error", "drop", "truncate"] = "error"
    """What happens to an example longer than the base model's context: refuse the data, leave the example out, or cut its end. Ours."""


@dataclass(frozen=True, kw_only=True)
class TuneModel:
    """How long and how fast the model learns."""

    train_steps: int = 300
    """Number of optimizer steps. Epochs = train_steps x batch size / examples."""
    learning_rate: float = -1.0
    """Absolute learning rate; -1 takes the rate recommended for the base model. Deprecated in favour of the multiplier."""
    learning_rate_multiplier: float = 1.0
    """Scales the learning rate recommended for the base model."""
    evaluation_interval: int = 20
    """Steps between two evaluations. Needs evaluation_data_uri."""
    enable_early_stopping: bool = True
    """Stop before train_steps when token accuracy no longer improves between evaluations. Needs evaluation_data_uri."""
    seed: int = 0
    """Seed of the example order. The same seed on the same machine gives the same weights. Ours."""


@dataclass(frozen=True, kw_only=True)
class SelectCheckpoint:
    """Which checkpoint becomes the tuned model."""

    enable_checkpoint_selection: Literal["default", "true", "false"] = "default"
    """`true`: the checkpoint with the best evaluation. `false`: the last one. `default`: `true` when there is evaluation data."""
    selection_metric: Literal["token_accuracy", "loss", "exact_match", "rouge_l", "chrf"] = "token_accuracy"
    """What "best" means. With a generation metric every candidate answers the evaluation prompts. Ours."""
    champion_gate: bool = False
    """Register the tuned model only when it beats the champion, the version of the same model that has the alias `champion`. Ours."""
    champion_margin: float = 0.0
    """By how much selection_metric has to be better than the champion's; in the metric's own unit. Ours."""
    max_general_loss_increase: float = 0.1
    """Largest rise of the loss on general_data_uri over the champion's, as a share of it, that counts as not having forgotten. Ours."""


@dataclass(frozen=True, kw_only=True)
class EvaluateModel(SelectCheckpoint):
    """How the base model and the checkpoints are measured."""

    evaluation_output_root_dir: str = ""
    """Folder (gs:// URI or path) that also receives the evaluation results."""
    evaluation_num_prompts: int = 32
    """Evaluation prompts that are answered for the generation metrics; 0 for none. Ours."""
    evaluation_max_tokens: int = 128
    """Longest generated answer, in tokens. Ours."""


@dataclass(frozen=True, kw_only=True)
class UploadModel:
    """What the tuned model is called and who may read it."""

    project: str
    """Project that owns the job and the model."""
    model_display_name: str
    """Display name of the tuned model, up to 128 characters."""
    encryption_spec_key_name: str = ""
    """Customer-managed encryption key (CMEK). Only with GPU tuning and upload in us-central1."""
    upload_model: bool = True
    """Whether the tuned model is registered. Ours."""
    tensorboard_resource_id: str = ""
    """Vertex TensorBoard, `projects/P/locations/L/tensorboards/N`, in the region of the pipeline job."""
    model_output_root_dir: str = ""
    """gs:// folder in the upload region for the model's files. Empty: where they are, or gs://PROJECT-tuneline-REGION if that is elsewhere. Ours."""
    parent_model: str = ""
    """Registered model that gets a new version. Empty: the one that this project and region have by the same display name. Ours."""
    version_aliases: str = ""
    """Aliases of the new version, separated by commas. Ours."""
    serving_container_image_uri: str = ""
    """Container image that serves the model, instead of the template's. Ours."""


@dataclass(frozen=True, kw_only=True)
class DeployModel(UploadModel):
    """Whether the tuned model gets an endpoint."""

    deploy_model: bool = False
    """Whether the tuned model is deployed to an endpoint. Off by default, because an idle endpoint costs. Ours."""
    target_endpoint: str = ""
    """Endpoint that gets the model, `projects/P/locations/L/endpoints/E`. Empty: one that belongs to the model. Ours."""
    dedicated_endpoint_enabled: bool = True
    """Whether an endpoint that is made has an address and a network path of its own. Ours."""
    traffic_percentage: int = 100
    """Share of the endpoint's traffic for the model; the others keep their proportions. Ours."""
    serving_machine_type: str = ""
    """Machine that serves, e.g. `g2-standard-12`. Empty: the catalogue's for the base model. Ours."""
    min_replica_count: int = 1
    """Machines that always serve. Ours."""
    max_replica_count: int = 1
    """Machines that serve under load. Ours."""
    serving_spot: bool = False
    """Whether machines that can be taken away at any time serve, for less. Ours."""
    undeploy_after_hours: int = 0
    """Hours after which the model is taken off its endpoint again; 0 for never. Ours."""


@dataclass(frozen=True, kw_only=True)
class TuningParameters(TransformDataset, TuneModel, EvaluateModel, DeployModel):
    """All parameters of `tune-large-model` and `tune-large-chat-model`."""

    location: str = ""
    """Model upload region. Empty: the region of the pipeline job."""
    large_model_reference: str = "text-bison@001"
    """Base model, by its reference in the model catalogue."""
    base_model_uri: str = ""
    """Weights to start from instead of the reference's own: a Hugging Face id, a folder or a gs:// URI, of the same architecture. Ours."""
    max_context_length: str = ""
    """`8k` or `32k`; empty takes the base model's."""
    accelerator_type: Literal["", "GPU", "TPU"] = ""
    """Where tuning computes: GPU or TPU. Empty: GPU on Vertex, the best that a local machine has."""
    batch_size: int = 0
    """Examples a step; 0 takes the catalogue's for the region, accelerator and context length. Ours."""
    tuning_location: str = ""
    """Region in which tuning computes, instead of the accelerator's own. Ours."""
    machine_type: str = ""
    """Vertex machine that tunes, e.g. `a3-highgpu-8g`, instead of the accelerator's own. Ours."""
    accelerator_count: int = 0
    """Accelerators of that machine; 0 takes all that the machine type has. Ours."""
    replica_count: int = 1
    """Machines that tune the model together. Ours."""
    scheduling_strategy: Literal["", "STANDARD", "SPOT", "FLEX_START"] = ""
    """How Vertex finds machines: at once, at a discount but taken away at any time, or when there are some. Ours."""
    max_wait_duration: str = ""
    """How long Vertex may look for machines, in seconds like `3600s`. Ours."""
    reservation: str = ""
    """Compute Engine reservation to tune on, `projects/P/zones/Z/reservations/R`. Ours."""
    tuning_fallbacks: str = ""
    """Where to tune instead when there is no quota or no machine: `REGION/MACHINE_TYPE`, separated by commas, tried in this order. Ours."""
    tuning_image_uri: str = ""
    """Container image that tunes, instead of the template's. Ours."""
    network: str = ""
    """VPC network that the tuning job is peered with, `projects/NUMBER/global/networks/NAME`. Ours."""
    service_account: str = ""
    """Account that the tuning job and the model's server act as. Empty: Vertex's default. Ours."""
    skip_unchanged: bool = False
    """Do nothing when the newest version of the model was tuned from the same bytes with the same parameters. Ours."""
    continue_from_champion: bool = False
    """Start from the version with the alias `champion`, if there is one, instead of from the base model. Ours."""
    dataset_name: str = ""
    """Vertex managed dataset. Not available here: export it and give dataset_uri."""
    tuning_method: str = "tune_v2"
    """Only `tune_v2`."""
    tpu_training_skip_cmek: bool = False
    """Only false."""
    api_endpoint: str = "aiplatform.googleapis.com/ui"
    """Only the default; the region's own endpoint is derived from it."""
    catalog_uri: str = ""
    """TOML file (gs:// URI or path) with catalogue rows that are laid over the built-in ones. Ours."""
