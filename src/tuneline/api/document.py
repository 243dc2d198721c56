"""The OpenAPI document: what FastAPI reads from the routes, and what holds for all of them, such as names in the address and errors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tuneline.api.path_names import PATTERN, WITH_SLASHES

Json: TypeAlias = dict[str, Any]

DESCRIPTION = """Vertex-shaped tuning service on top of the embedded engine.

Bodies follow proto3's JSON: names in camelCase or snake_case, 64-bit numbers as text or as numbers, enums by name or number. Answers hold
camelCase names and the names of enums. `/v1beta1` has what `/v1` has. Buckets are at `/storage/v1`, `/upload/storage/v1`, `/download/storage/v1`
and `/batch/storage/v1`, as the documentation of Cloud Storage's JSON API describes them.
"""
TAGS = {
    "pipelineJobs": "Runs of a compiled template.",
    "customJobs": "Tuneline's own steps as jobs of their own.",
    "schedules": "Pipeline jobs at the times of a cron expression.",
    "tensorboards": "Experiments, runs and time series; a pipeline job leaves its scalars there.",
    "tuningJobs": "Supervised tuning of a base model; each has a pipeline job, which does the work.",
    "models": "Registered models and their versions.",
    "evaluations": "What was measured of a model's version.",
    "endpoints": "Deployed models: servers of this machine, and how they share the traffic.",
    "predictions": "Predictions of endpoints and of base models.",
    "openai": "OpenAI's chat completions and completions.",
    "publishers": "Base models of the catalogue.",
    "modelGarden": "A folder of weights, deployed in one go.",
    "operations": "Long-running operations, also under `/ui`.",
    "service": "The service itself.",
}
ERRORS = {
    400: "The request cannot be used; the message names all its problems. Or the resource is not in a state for it.",
    401: "The service asks for its token, and the request bears none or another.",
    403: "Host or Origin is no name of this service.",
    404: "There is no such resource.",
    409: "The name is taken.",
    413: "The body is longer than it may be.",
    429: "Too many requests a second from this address.",
    503: "The model's server gave no answer; try again.",
}
STATUS: Json = {
    "description": "A google.rpc.Status, as Google's services send it.",
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "integer"}, "message": {"type": "string"}, "status": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def describe(app: FastAPI) -> Json:
    """The document of all routes."""
    tags = [{"name": name, "description": text} for name, text in TAGS.items()]
    found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=tags)
    components = found["components"]
    for path, method, operation in operations(found):
        _complete(operation, path, method)
    names = sorted({name for path in found["paths"] for name in _names(path)})
    components["parameters"] = {name: {"name": name, "in": "path", "required": True, "schema": _schema(name)} for name in names}
    for name in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of errors
        components["schemas"].pop(name, None)
    components["schemas"]["Status"] = STATUS
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Status"}}}
    components["responses"] = {str(code): {"description": text, "content": content} for code, text in ERRORS.items()}
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}, "key": {"type": "apiKey", "in": "header", "name": "x-goog-api-key"}}
    found["security"] = [{}, {"bearer": []}, {"key": []}]
    return {**found, "paths": _without_titles(found["paths"]), "components": _without_titles(components)}


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Json]]:
    """Path, method and description of every operation."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _complete(operation: Json, path: str, method: str) -> None:
    """Add what no route says for itself."""
    said = operation.pop("description", "").removesuffix(".")  # the function's docstring
    operation["summary"] = said or operation["operationId"].partition("_")[2].replace("_", " ").capitalize()
    own = [parameter for parameter in operation.get("parameters", ()) if parameter["in"] != "path"]
    operation["parameters"] = [*({"$ref": f"#/components/parameters/{name}"} for name in _names(path)), *own]
    responses = operation["responses"]
    responses.pop("422", None)
    for content in responses["200"].get("content", {}).values():
        if "$ref" in content.get("schema", {}):  # FastAPI lays the message over what it knows of the function's result
            content["schema"] = {"$ref": content["schema"]["$ref"]}
    responses |= {str(code): {"$ref": f"#/components/responses/{code}"} for code in _errors(path, method, operation, own)}


def _errors(path: str, method: str, operation: Mapping[str, Any], query: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    """The statuses with which an operation may refuse a request."""
    tag, name = operation["tags"][0], operation["operationId"].partition("_")[2]
    has_body, is_prediction = "requestBody" in operation, tag in ("predictions", "openai") and method == "post"
    names = set(_names(path)) - {"project", "location"}
    is_list = method == "get" and not re.search(r"[{:]", path.rpartition("/")[2])  # empty where there is no such parent
    chooses_id = any(parameter["name"].endswith("Id") for parameter in query)
    may_be = {
        400: has_body or "{" in path,
        401: True,
        403: True,
        404: (bool(names) and not is_list) or ":" in path or is_prediction,
        409: chooses_id or name in ("batch_create_tensorboard_runs", "upload_model", "deploy_custom_model"),
        413: has_body,
        429: True,
        503: is_prediction,
    }
    return tuple(code for code, is_so in may_be.items() if is_so)


def _names(path: str) -> list[str]:
    """The names of the path's parameters."""
    return re.findall(r"{(\w+)}", path)


def _schema(parameter: str) -> Json:
    return {"type": "string", **({} if parameter in WITH_SLASHES else {"pattern": PATTERN})}


def _without_titles(value: Any) -> Any:
    """Without the titles that pydantic and FastAPI make of names. A property may be called `title`, too."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _without_titles(inner) for key, inner in value.items() if key != "title" or not isinstance(inner, str)}
