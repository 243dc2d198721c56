"""Which base model a reference really means, and how long its examples may be."""

from dataclasses import dataclass

from tuneline.catalog import Catalog
from tuneline.catalog.rows import CONTEXT_LENGTHS, AliasRow, Kind, LimitsRow, ModelRow
from tuneline.errors import CatalogError, ParameterError
from tuneline.resolution import Limits, ResolvedModel


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """A reference, resolved."""

    resolved: ResolvedModel
    limits: Limits
    kind: Kind
    row: ModelRow
    """The model that is tuned."""
    reasons: tuple[str, ...]


def resolve_base_model(catalog: Catalog, reference: str, *, max_context_length: str = "", base_model_uri: str = "") -> BaseModel:
    """Look `large_model_reference` up and settle its length. Raises ParameterError."""
    try:
        row = catalog.model(reference)
    except CatalogError as error:
        raise ParameterError(f"large_model_reference: {error}") from None
    alias = catalog.aliases.get(reference)
    length, reason = _length(catalog, alias or row, row, max_context_length)
    reasons = [f"The base model is {row.reference}{f', a stand-in for {reference}' if alias else ''}.", reason]
    if base_model_uri:
        reasons.append(f"Tuning starts from the weights at {base_model_uri}: base_model_uri is set.")
    resolved = ResolvedModel(
        reference=reference, stands_in=row.reference if alias else "", uri=base_model_uri or row.uri, legacy=alias is not None and alias.legacy,
        max_sequence_length=length, learning_rate=row.learning_rate,
    )  # fmt: skip
    asked = alias or row
    return BaseModel(resolved=resolved, limits=_limits(catalog.limits[asked.limits]), kind=asked.kind, row=row, reasons=tuple(reasons))


def context_of(length: int) -> str:
    """The class whose batch size holds for examples of this length: `8k` up to 8,192 tokens, else `32k`."""
    return "8k" if length <= CONTEXT_LENGTHS["8k"] else "32k"


def _length(catalog: Catalog, asked: AliasRow | ModelRow, row: ModelRow, max_context_length: str) -> tuple[int, str]:
    """Tokens of one example, and why."""
    wanted = CONTEXT_LENGTHS.get(max_context_length, 0)
    if max_context_length and not wanted:
        raise ParameterError(f"max_context_length: found {max_context_length!r}; expected '8k', '32k' or nothing. Leave it out for the base model's own.")
    if wanted > asked.max_sequence_length:
        longer = [name for name, alias in catalog.aliases.items() if alias.kind == asked.kind and alias.max_sequence_length >= wanted]
        instead = f", or give large_model_reference={longer[0]!r}" if longer else ""
        raise ParameterError(
            f"max_context_length: found {max_context_length!r} ({wanted} tokens); {asked.reference!r} takes {asked.max_sequence_length}. Leave it out{instead}."
        )
    length = wanted or asked.max_sequence_length
    if length > row.context_window:
        return row.context_window, f"An example may have {row.context_window} tokens: {row.reference} reads no more."
    return length, f"An example may have {length} tokens: {'max_context_length asks for it' if wanted else f'the length of {asked.reference}'}."


def _limits(row: LimitsRow) -> Limits:
    return Limits(
        min_training_examples=row.min_training_examples, max_training_examples=row.max_training_examples, max_author_fields=row.max_author_fields,
        min_evaluation_examples=row.min_evaluation_examples, max_evaluation_examples=row.max_evaluation_examples,
    )  # fmt: skip
