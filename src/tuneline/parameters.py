"""Every pipeline parameter, written once: name, type, default, meaning. Grouped by the step that reads it.

The names, types and defaults of the hosted templates are kept to the letter (`project` to `api_endpoint`); parameters of our own
say so. An empty string, 0 or -1 means "not set". Groups are inert: in a pipeline body the fields hold KFP channels, so all
checks are in `validation.py`.
"""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TransformDataset:
    """Where the examples are and how they become tokens."""

    dataset_uri: str = ""
    """Training examples: a JSONL file at a gs:// URI or a path."""
    evaluation_data_uri: str = ""
    """Evaluation examples (10 to 250 for the hosted model references): a JSONL file at a gs:// URI or a path."""
    default_context: str = ""
    """Context (system instruction) of every example that brings none of its own."""
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


@dataclass(frozen=True, kw_only=True)
class DeployModel(UploadModel):
    """Whether the tuned model gets an endpoint."""

    deploy_model: bool = False
    """Whether the tuned model is deployed to an endpoint. Off by default, because an idle endpoint costs. Ours."""


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
    tensorboard_resource_id: str = ""
    """Vertex TensorBoard, `projects/P/locations/L/tensorboards/N`, in the region of the pipeline job."""
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
