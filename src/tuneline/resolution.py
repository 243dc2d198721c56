"""What `validate-parameters` decided, once, for all later steps: the content of the `resolved` artifact."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

Backend = Literal["local", "vertex", "kubernetes"]
Launch = Literal["in-place", "custom-job", "train-job"]
"""Where tune-model and evaluate-model compute: in their own task, in a Vertex CustomJob, or in a Kubeflow TrainJob."""


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """The base model that will really be tuned."""

    reference: str
    """As asked for: `code-bison@002`, `tuneline/tiny-code@001`."""
    stands_in: str = ""
    """Reference of the model that is tuned in its place, or nothing when it is the model itself."""
    uri: str
    """`embedded:NAME`, a Hugging Face id (`hf://owner/name`), a folder or a gs:// URI."""
    legacy: bool = False
    """A hosted reference of the seeds, whose data limits apply."""
    max_sequence_length: int
    """Tokens of one example, prompt and completion."""
    learning_rate: float
    """Recommended peak learning rate."""

    def metadata(self) -> dict[str, object]:
        """What a tuned model's artifact says of its origin."""
        name = self.stands_in or self.reference
        return {"base_model": name, "large_model_reference": self.reference, "max_sequence_length": self.max_sequence_length}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What tunes or serves, and where."""

    region: str
    machine_type: str
    accelerator_type: str
    """`NVIDIA_A100_80GB`, `TPU_V3`, ...; empty for a CPU."""
    accelerator_count: int


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How the job that tunes is set up on Vertex, as far as the user said. Names and empty values are those of the pipeline parameters."""

    replica_count: int = 1
    scheduling_strategy: str = ""
    max_wait_duration: str = ""
    reservation: str = ""
    tuning_image_uri: str = ""
    network: str = ""
    service_account: str = ""
    encryption_spec_key_name: str = ""


@dataclass(frozen=True, kw_only=True)
class Champion:
    """The version of the model that is to be beaten, or tuned further."""

    model_resource_name: str
    """With its version."""
    uri: str
    """Folder of its files."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How many examples are allowed; 0 for no limit."""

    min_training_examples: int = 1
    max_training_examples: int = 0
    max_author_fields: int = 0
    """Over all examples of a chat file."""
    min_evaluation_examples: int = 1
    max_evaluation_examples: int = 0


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """Regions, machine, batch size and base model of one pipeline run."""

    backend: Backend
    pipeline_region: str
    upload_region: str
    tuning_region: str
    machine_type: str
    accelerator_type: str
    """`NVIDIA_A100_80GB`, `TPU_V3`, ...; empty for a CPU."""
    accelerator_count: int
    batch_size: int
    launch: Launch = "in-place"
    fallbacks: tuple[Machine, ...] = ()
    """What tunes instead when there is no quota or no machine, in this order."""
    job: JobSettings = JobSettings()
    champion: Champion | None = None
    serving: Machine | None = None
    """What serves the tuned model, if it is to be deployed."""
    data_fingerprint: str = ""
    """SHA-256 over the contents of the data and the parameters that shape the model: what it was tuned from, wherever and on whatever."""
    skip_reason: str = ""
    """Why there is nothing to do; the later tasks then put out nothing."""
    base_model: ResolvedModel
    limits: Limits
    reasons: tuple[str, ...]
    """Why each of these came out as it did, for people."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Resolved":
        values = json.loads(text)
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"resolved.json has unknown keys {sorted(unknown)}; it was written by another version.")
        values["base_model"] = ResolvedModel(**values["base_model"])
        values["limits"] = Limits(**values["limits"])
        values["job"] = JobSettings(**values["job"])
        values["fallbacks"] = tuple(Machine(**machine) for machine in values["fallbacks"])
        values["champion"] = Champion(**values["champion"]) if values["champion"] else None
        values["serving"] = Machine(**values["serving"]) if values["serving"] else None
        values["reasons"] = tuple(values["reasons"])
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> "Resolved":
        return cls.from_json(path.read_text(encoding="utf-8"))
