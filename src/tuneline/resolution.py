"""What `validate-parameters` decided, once, for all later steps: the content of the `resolved` artifact."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

Backend = Literal["local", "vertex", "kubernetes"]


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
        values["reasons"] = tuple(values["reasons"])
        return cls(**values)

    @classmethod
    def read(cls, path: Path) -> "Resolved":
        return cls.from_json(path.read_text(encoding="utf-8"))
