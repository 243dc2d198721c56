"""`Tensor`, in which streamed predictions carry their instances: JSON values in protobuf's clothes. Pure."""

from typing import Any

from tuneline.api.store import Body
from tuneline.api.wire import Message, Whole


class Tensor(Message):
    """One of these fields has the value; none stands for nothing."""

    dtype: str | int = ""
    shape: list[Whole] = []
    bool_val: list[bool] = []
    string_val: list[str] = []
    bytes_val: list[str] = []
    float_val: list[float] = []
    double_val: list[float] = []
    int_val: list[Whole] = []
    int64_val: list[Whole] = []
    uint_val: list[Whole] = []
    uint64_val: list[Whole] = []
    list_val: list["Tensor"] = []
    struct_val: dict[str, "Tensor"] = {}
    tensor_val: str = ""


class StreamingPredictRequest(Message):
    """Body of `:serverStreamingPredict`."""

    endpoint: str = ""
    inputs: list[Tensor]
    parameters: Tensor | None = None


def value_of(tensor: Tensor) -> Any:
    """The JSON value."""
    given = tensor.model_dump(exclude_unset=True, exclude={"dtype", "shape"}, by_alias=False)
    if "struct_val" in given:
        return {key: value_of(inner) for key, inner in tensor.struct_val.items()}
    if "list_val" in given:
        return [value_of(inner) for inner in tensor.list_val]
    values = next(iter(given.values()), None)
    return values[0] if isinstance(values, list) and len(values) == 1 else values


def tensor_of(value: object) -> Body:
    """The tensor of a JSON value."""
    match value:
        case bool():
            return {"boolVal": [value]}
        case int():
            return {"intVal": [value]}
        case float():
            return {"doubleVal": [value]}
        case str():
            return {"stringVal": [value]}
        case list():
            return {"listVal": [tensor_of(inner) for inner in value]}
        case dict():
            return {"structVal": {str(key): tensor_of(inner) for key, inner in value.items()}}
        case _:
            return {}
