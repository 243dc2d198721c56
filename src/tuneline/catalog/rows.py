"""The rows of the catalogue files, typed: a row has these keys, all of them, and no other.

`Annotated[int, 1]` is a number of at least 1, `Annotated[str, 1]` a text of at least one character. Rates are positive.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Literal

from tuneline.resolution import Backend

Text = Annotated[str, 1]
Count = Annotated[int, 0]
Size = Annotated[int, 1]
Kind = Literal["text", "chat", "code", "codechat", "any"]
Mode = Literal["PEFT_ADAPTER", "FULL"]
Context = Literal["8k", "32k"]
Accelerator = Literal["CPU", "GPU", "TPU"]

CONTEXT_LENGTHS: Mapping[str, int] = {"8k": 8_192, "32k": 32_768}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Where a row's facts come from."""

    source: Text
    date: date | None
    """When the source was read; unknown for rows of a user's own file."""


@dataclass(frozen=True, kw_only=True)
class LimitsRow(Row):
    """How many examples are allowed; 0 for no limit."""

    id: Text
    min_training_examples: Count
    max_training_examples: Count
    max_author_fields: Count
    min_evaluation_examples: Count
    max_evaluation_examples: Count


@dataclass(frozen=True, kw_only=True)
class ModelRow(Row):
    """A base model with weights of its own."""

    reference: Text
    spellings: tuple[str, ...]
    """Other references of the same model."""
    uri: Text
    kind: Kind
    architecture: Text
    modes: tuple[Mode, ...]
    context_window: Size
    max_sequence_length: Size
    learning_rate: float
    local_batch_size: Size
    limits: Text


@dataclass(frozen=True, kw_only=True)
class AliasRow(Row):
    """A reference whose weights are not to be had; `model` stands in for it."""

    reference: Text
    model: Text
    kind: Kind
    max_sequence_length: Size
    limits: Text
    legacy: bool


@dataclass(frozen=True, kw_only=True)
class RegionRow(Row):
    """A place where pipelines run and models are kept."""

    name: Text
    backend: Backend
    hosted: bool
    """Whether the hosted references may be tuned and kept here, too, and not only open models."""
    tuning_accelerators: tuple[Accelerator, ...]


@dataclass(frozen=True, kw_only=True)
class BatchSizeRow(Row):
    """Examples a step, by tuning region and context length."""

    id: Text
    region: Text
    context: Context
    batch_size: Size


@dataclass(frozen=True, kw_only=True)
class MachineTypeRow(Row):
    """What a machine type of Vertex has."""

    name: Text
    accelerator_type: str
    accelerator_count: Count


@dataclass(frozen=True, kw_only=True)
class MachineRow(Row):
    """What tunes in a region."""

    id: Text
    models: Literal["any", "open"]
    """`open`: only open models whose pipeline runs in this very region."""
    region: Text
    accelerator: Accelerator
    machine_type: Text
    accelerator_type: str
    accelerator_count: Count
    cmek: bool
    """Whether a customer-managed encryption key of that region may be used."""


@dataclass(frozen=True, kw_only=True)
class ServingRow(Row):
    """What serves a tuned model, and how that is known: from a published notebook that deploys the model so, or by arithmetic alone."""

    model: Text
    machine_type: Text
    evidence: Literal["notebook", "calculated"]


@dataclass(frozen=True, kw_only=True)
class PriceRow(Row):
    """What machine types cost an hour in some regions, on demand."""

    id: Text
    machine_types: tuple[str, ...]
    regions: tuple[str, ...]
    usd_per_hour: float
    per: Literal["machine", "accelerator"]
    """Whether the price is for the machine as a whole or for each of its accelerators, their share of the machine included."""


TABLES: Mapping[str, tuple[type[Row], str]] = {
    "limits": (LimitsRow, "id"),
    "model": (ModelRow, "reference"),
    "alias": (AliasRow, "reference"),
    "region": (RegionRow, "name"),
    "batch_size": (BatchSizeRow, "id"),
    "machine": (MachineRow, "id"),
    "machine_type": (MachineTypeRow, "name"),
    "serving": (ServingRow, "model"),
    "price": (PriceRow, "id"),
}
"""Table name -> the class of its rows and the key that names one."""
