"""Parameter values: the types of the pipeline specification, and their form in a command line and in an output file."""

import json
import math
from collections.abc import Mapping
from typing import Literal, get_args

from tuneline.templates import Json

ParameterType = Literal["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "BOOLEAN", "LIST", "STRUCT"]
PARAMETER_TYPES: tuple[ParameterType, ...] = get_args(ParameterType)

_WORDS = {
    "STRING": "a text",
    "NUMBER_INTEGER": "a whole number",
    "NUMBER_DOUBLE": "a number",
    "BOOLEAN": "true or false",
    "LIST": "a JSON list",
    "STRUCT": "a JSON object",
}


def json_value(value: object) -> Json:
    """`value` as JSON knows it; a `ValueError` names what JSON does not know."""
    if isinstance(value, str | bool | int | None):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is not a finite number")
        return value
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    raise ValueError(f"a {type(value).__name__} is not a JSON value")


def typed(value: object, kind: ParameterType) -> Json:
    """`value`, or the value that a text spells, as `kind`; a `ValueError` tells what was expected."""
    found = _read(value, kind) if isinstance(value, str) and kind != "STRING" else json_value(value)
    if kind == "NUMBER_INTEGER" and isinstance(found, float) and found.is_integer():
        return int(found)  # the specification writes every number as a float: 300.0
    if kind == "NUMBER_DOUBLE" and isinstance(found, int) and not isinstance(found, bool):
        return float(found)
    if not _fits(found, kind):
        raise ValueError(f"{_short(value)} is not {_WORDS[kind]}")
    return found


def to_text(value: Json) -> str:
    """A value in a command line, as KFP writes it: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read(text: str, kind: ParameterType) -> Json:
    words = {"true": True, "false": False}
    try:
        return words[text.strip().lower()] if kind == "BOOLEAN" else json_value(json.loads(text))
    except (KeyError, ValueError):
        raise ValueError(f"{_short(text)} is not {_WORDS[kind]}") from None


def _fits(value: Json, kind: ParameterType) -> bool:
    match kind:
        case "STRING":
            return isinstance(value, str)
        case "BOOLEAN":
            return isinstance(value, bool)
        case "NUMBER_INTEGER":
            return isinstance(value, int) and not isinstance(value, bool)
        case "NUMBER_DOUBLE":
            return isinstance(value, float)
        case "LIST":
            return isinstance(value, list)
        case "STRUCT":
            return isinstance(value, dict)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
