"""A Kubernetes API on this machine that knows one kind of object, TrainJob, and refuses what its schema does not allow.

The schema has the fields that are used here, with the types and limits of kubeflow/trainer's v1alpha1 (TrainJob's custom resource definition, state
of 2026-08-21). Unlike Kubernetes, which drops unknown fields, this refuses them.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from kubernetes.client import ApiClient

from tests.kubernetes import api_server
from tests.kubernetes.api_server import Answer, Json, Request

TEXT: Json = {"type": "string"}
QUANTITY: Json = {"type": "string", "pattern": r"(\+|-)?[0-9]+(\.[0-9]*)?([KMGTPE]i|[numkMGTPE])?"}
AMOUNTS: Json = {"type": "object", "additionalProperties": QUANTITY}
LABEL: Json = {"type": "string", "maxLength": 63, "pattern": r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?"}
METADATA: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "maxLength": 63, "pattern": r"[a-z]([a-z0-9-]*[a-z0-9])?"},
        "namespace": TEXT,
        "labels": {"type": "object", "additionalProperties": LABEL},
    },
}
TRAINER: Json = {
    "type": "object",
    "properties": {
        "image": {"type": "string", "maxLength": 500},
        "command": {"type": "array", "maxItems": 128, "items": TEXT},
        "args": {"type": "array", "maxItems": 128, "items": TEXT},
        "env": {"type": "array", "maxItems": 128, "items": {"type": "object", "required": ["name"], "properties": {"name": TEXT, "value": TEXT}}},
        "numNodes": {"type": "integer", "minimum": 0},
        "numProcPerNode": {"type": "integer", "minimum": 1},
        "resourcesPerNode": {"type": "object", "properties": {"limits": AMOUNTS, "requests": AMOUNTS}},
    },
}
RUNTIME: Json = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 253}, "kind": TEXT, "apiGroup": TEXT},
}
SCHEMA: Json = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"type": "string", "pattern": r"trainer\.kubeflow\.org/v1alpha1"},
        "kind": {"type": "string", "pattern": "TrainJob"},
        "metadata": METADATA,
        "spec": {"type": "object", "required": ["runtimeRef"], "properties": {"runtimeRef": RUNTIME, "trainer": TRAINER}},
    },
}
TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "object": (dict,), "array": (list,)}


def problems(value: Any, schema: Json, place: str = "") -> Iterator[str]:
    """What a structural schema has against a value."""
    if not isinstance(value, TYPES[schema["type"]]) or isinstance(value, bool):
        yield f"{place}: found {value!r}; expected {schema['type']}"
        return
    size = len(value) if isinstance(value, str | list) else 0
    if size > schema.get("maxLength", schema.get("maxItems", size)) or size < schema.get("minLength", 0):
        yield f"{place}: size {size}"
    if isinstance(value, int) and value < schema.get("minimum", value):
        yield f"{place}: found {value}"
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        yield f"{place}: found {value!r}"
    for index, item in enumerate(value if isinstance(value, list) else ()):
        yield from problems(item, schema["items"], f"{place}[{index}]")
    if isinstance(value, dict):
        yield from (f"{place}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            known = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            yield from problems(item, known, f"{place}.{name}") if known else [f"{place}.{name} is unknown"]


@dataclass
class FakeKubernetes:
    """TrainJobs by name, of one namespace. `failures` are answered first, as they come; None closes the connection without an answer."""

    client: ApiClient
    jobs: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    failures: list[int | None] = field(default_factory=list)
    path: str = "/apis/trainer.kubeflow.org/v1alpha1/namespaces/team-a/trainjobs"

    def condition(self, name: str, kind: str, message: str = "", *, reason: str = "Because") -> None:
        """Set a condition of a job, as the controller does."""
        told = {"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": "2026-11-29T00:00:00Z"}
        self.jobs[name]["status"] = {"conditions": [told]}

    def answer(self, request: Request) -> Answer:
        method, body = request.method, request.body
        self.asked.append(method)
        collection, _, name = request.path.rpartition("/") if method != "POST" else (request.path, "", "")
        if collection != self.path:
            return 404, {"message": "the server could not find the requested resource"}
        if method == "POST":
            found = list(problems(body, SCHEMA))
            assert body is not None
            if found or body["metadata"]["namespace"] != "team-a":
                return 422, {"message": f"TrainJob is invalid: {found}"}
            if body["metadata"]["name"] in self.jobs:
                return 409, {"reason": "AlreadyExists", "message": "already exists"}
            self.jobs[body["metadata"]["name"]] = body
            return 201, body
        if name not in self.jobs:
            return 404, {"message": f'trainjobs "{name}" not found'}
        if method == "DELETE":
            assert body is None or body.get("propagationPolicy", "Foreground") == "Foreground"
            assert request.query["propagationPolicy"] == ["Foreground"]
            self.jobs.pop(name)
            return 200, {"status": "Success"}
        return 200, self.jobs[name]


@contextlib.contextmanager
def serving() -> Iterator[FakeKubernetes]:
    """The API, and the real client for it."""

    def answer(request: Request) -> Answer:
        failure = fake.failures.pop(0) if fake.failures else 0
        answered = (failure, {"message": "because"}) if failure else fake.answer(request)
        return None if failure is None else answered

    with api_server.serving(answer) as client:
        fake = FakeKubernetes(client)
        yield fake
