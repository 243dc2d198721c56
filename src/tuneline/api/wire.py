"""Request bodies by the rules of proto3's JSON: both spellings of a name, enums by name or number, 64-bit numbers as text.

curl users write `training_dataset_uri`, google-cloud-aiplatform sends `"tuningMode": 1` and `"epochCount": "3"`, google-genai
`"TUNING_MODE_FULL"`. Answers always hold camelCase names and enum names, which every client reads.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

import orjson
from fastapi.responses import Response
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from tuneline.api.faults import Fault, invalid
from tuneline.errors import did_you_mean
from tuneline.templates import Json

M = TypeVar("M", bound="Message")
SURROUNDINGS = 40
"""Characters of a body that are shown on each side of an error."""
MAX_PROBLEMS = 100
"""That one answer tells of a body. It may have hundreds of thousands."""


class Message(BaseModel):
    """A message of the API."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", protected_namespaces=(), serialize_by_alias=True)

    def to_json(self) -> dict[str, Json]:
        """The message as it is answered: without what was not given."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)


def proto_enum(**values: int) -> BeforeValidator:
    """For the type of an enum field, `Annotated[str, proto_enum(...)]`: takes its names, or their numbers."""
    names = {number: name for name, number in values.items()}

    def read(value: object) -> object:
        if isinstance(value, str) and value in values:
            return value
        number = int(value) if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value) else None
        if number in names:
            return names[number]
        raise ValueError(f"expected one of {', '.join(values)}.{did_you_mean(value, values) if isinstance(value, str) else ''}")

    return BeforeValidator(read, json_schema_input_type=Literal[*values])


class JsonAnswer(Response):
    """An answer that may hold JSON text as it is (`orjson.Fragment`): templates are long, and most of a list."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def no_truth_value(value: object) -> object:
    """For numbers: Python counts `true` as 1."""
    if isinstance(value, bool):
        raise ValueError(f"found {str(value).lower()}; expected a number.")
    return value


Int32 = Annotated[int, Field(ge=-(2**31), lt=2**31), WithJsonSchema({"type": "integer", "format": "int32"})]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63), WithJsonSchema({"type": "integer", "format": "int64"})]
Int64 = Annotated[
    int,
    Field(ge=-(2**63), lt=2**63),
    BeforeValidator(no_truth_value),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"anyOf": [{"type": "integer", "format": "int64"}, {"type": "string", "pattern": "^-?[0-9]{1,19}$"}]}, mode="validation"),
]
"""A 64-bit number; clients send and read it as text."""
Labels = dict[str, str]
Struct = dict[str, Any]


def parse(kind: type[M], body: object) -> M:
    """`body` as a message of this kind; every problem at once."""
    if not isinstance(body, Mapping):
        raise invalid("body: expected a JSON object.")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        raise refusal(kind, error.errors()) from None


def refusal(kind: type[BaseModel] | None, errors: Sequence[Any], text: str = "") -> Fault:
    """What pydantic found, in our words: where, what was expected, and the name that was perhaps meant. `text` is the body, if it was no JSON."""
    left_out = len(errors) - MAX_PROBLEMS
    more = [f"And {left_out} more."] if left_out > 0 else []
    return invalid(*dict.fromkeys(_problem(kind, error, text) for error in errors[:MAX_PROBLEMS]), *more)


def _problem(kind: type[BaseModel] | None, error: Mapping[str, Any], text: str) -> str:
    place = [part for part in error["loc"] if part not in ("body", "query", "path")]
    where = ".".join(str(part) for part in place) or "body"
    match error["type"]:
        case "extra_forbidden":
            return f"unknown field {where!r}.{did_you_mean(str(place[-1]), _known(kind, place[:-1]))}"
        case "missing":
            return f"{where} is missing."
        case "value_error":
            return f"{where}: {error['ctx']['error']}"
        case "json_invalid":
            return f"body: not JSON ({_with_place(error['ctx']['error'], text, int(place[0]))})."
        case _:
            return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}."


def _with_place(problem: str, text: str, position: int) -> str:
    """A problem with its place in a text. `curl -d @file` takes the line ends away, so that a column alone would help nobody."""
    line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    before, after = text[max(0, position - SURROUNDINGS) : position].strip(), text[position : position + SURROUNDINGS].strip()
    start, end = (repr(side) if side else edge for side, edge in ((before, "the start"), (after, "the end")))
    return f"line {line}, column {column}: {problem}, between {start} and {end}"


def _known(kind: type[BaseModel] | None, place: Sequence[object]) -> list[str]:
    """Names of the fields of the message at `place` inside a message of `kind`."""
    for part in place:
        fields = kind.model_fields if kind else {}
        field = next((info for name, info in fields.items() if part in (name, info.alias)), None)
        if field is not None:
            kind = next((item for item in _classes(field.annotation) if issubclass(item, BaseModel)), None)
    return [str(info.alias or name) for name, info in kind.model_fields.items()] if kind else []


def _classes(annotation: object) -> list[type]:
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation]
    return [item for argument in get_args(annotation) for item in _classes(argument)]
