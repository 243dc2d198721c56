"""The InferenceService as KServe's published schema has it, and what a cluster makes of it: a stub of the Kubernetes API on this machine."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kubernetes.api_server import Answer, Request, serving
from tests.vertex.stub_api import FakeTime
from tuneline.errors import InfrastructureError, ModelError, UserError
from tuneline.kubernetes.api import open_client
from tuneline.kubernetes.cluster import Cluster
from tuneline.kubernetes.inference_services import Service, is_ready
from tuneline.vertex.backoff import Backoff

QUANTITY = {"type": "string", "pattern": r"[0-9]+([KMGTPE]i)?"}
QUANTITIES = {"type": "object", "properties": {"cpu": QUANTITY, "memory": QUANTITY, "nvidia.com/gpu": QUANTITY}}
TEXT, NUMBER = {"type": "string"}, {"type": "integer"}
PREDICTOR = {
    "type": "object",
    "properties": {
        "minReplicas": NUMBER,
        "maxReplicas": NUMBER,
        "model": {
            "type": "object",
            "properties": {
                "modelFormat": {"type": "object", "properties": {"name": TEXT}, "required": ["name"]},
                "args": {"type": "array", "items": TEXT},
                "storageUri": TEXT,
                "resources": {"type": "object", "properties": {"limits": QUANTITIES, "requests": QUANTITIES}},
            },
        },
    },
}
"""The part of `serving.kserve.io_inferenceservices` (v1beta1) below `spec.predictor` that is used here; other fields count as unknown."""
TYPES = {"object": dict, "array": list, "string": str, "integer": int}


def problems(value: object, schema: dict[str, Any], place: str = "") -> Iterator[str]:
    """Where a value is not what the schema has."""
    if not isinstance(value, TYPES[schema["type"]]):
        yield f"{place}: {value!r} is no {schema['type']}"
    elif isinstance(value, dict):
        yield from (f"{place}: {key} is missing" for key in schema.get("required", []) if key not in value)
        for key, inner in value.items():
            if key in schema["properties"]:
                yield from problems(inner, schema["properties"][key], f"{place}.{key}")
            else:
                yield f"{place}.{key}: unknown"
    elif isinstance(value, list):
        for each in value:
            yield from problems(each, schema["items"], f"{place}[]")
    elif not re.fullmatch(schema.get("pattern", ".*"), str(value)):
        yield f"{place}: {value!r}"


def service(**changes: Any) -> Service:
    given = {"project": "acme", "display_name": "Our model 1", "uri": "gs://b/run/checkpoint-20", "num_bytes": 16 * 2**30, "accelerator_count": 1}
    return Service(**{**given, **changes})


@pytest.mark.parametrize("changes", [{}, {"accelerator_count": 0, "max_replica_count": 3}, {"uri": "s3://b/x", "labels": {"tuneline-run": "Job 1-"}}])
def test_the_object_is_what_the_schema_has(changes: dict[str, Any]) -> None:
    manifest = service(**changes).to_json("team-a")
    assert (manifest["apiVersion"], manifest["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert list(problems(manifest["spec"]["predictor"], PREDICTOR)) == []
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", value) for value in manifest["metadata"]["labels"].values())


def test_a_wrong_object_is_noticed() -> None:
    predictor = service().to_json("n")["spec"]["predictor"]
    predictor["model"]["resources"] = {"limits": {"memory": "much"}}
    predictor["model"]["modelFormat"] = {}
    predictor["minReplica"] = 1
    assert list(problems(predictor, PREDICTOR)) == [
        ".model.modelFormat: name is missing", ".model.resources.limits.memory: 'much'", ".minReplica: unknown",
    ]  # fmt: skip


def test_the_model_is_read_from_where_it_is_with_the_memory_that_it_needs() -> None:
    model = service(accelerator_count=2).to_json("team-a")["spec"]["predictor"]["model"]
    name = service().name
    assert model["storageUri"] == "gs://b/run/checkpoint-20"
    assert model["args"] == [f"--model_name={name}", "--model_dir=/mnt/models"]
    assert model["resources"]["limits"] == {"cpu": "4", "memory": "32Gi", "nvidia.com/gpu": "2"}


def test_the_name_follows_from_the_projects_and_the_models_names() -> None:
    assert service().name == service(uri="gs://b/other").name
    assert service().name != service(project="other").name
    for display_name in ("Our model", "7 samurai", "???", "x" * 128):
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])", service(display_name=display_name).name)


@pytest.mark.parametrize("uri", ["minio://mlpipeline/v2/x", "/data/x"])
def test_files_that_kserve_cannot_read_are_refused_by_name(uri: str) -> None:
    with pytest.raises(UserError, match=f"the model is at {uri}; KServe reads gs:// and s3://") as caught:
        service(uri=uri).to_json("n")
    assert "pipeline root" in caught.value.next_action


# The cluster


class Stub:
    """Answers like the API server of a cluster with KServe."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, list[str]], str, str]] = []
        self.answers: list[int] = []
        """Statuses with which the next requests are refused."""
        self.looks_until_ready = 2
        self.status: dict[str, Any] = {}

    def answer(self, request: Request) -> Answer:
        method, path, body = request.method, request.path, request.body or {}
        self.requests.append((method, path, dict(request.query), request.headers.get("Content-Type", ""), request.headers.get("Authorization", "")))
        if self.answers:
            status = self.answers.pop(0)
            return status, {"kind": "Status", "message": f"refused with {status}"}
        if method == "PATCH":
            generation = self.objects.get(path, {"metadata": {"generation": 0}})["metadata"]["generation"] + 1
            self.objects[path] = {**body, "metadata": {**body["metadata"], "generation": generation}}
            return 200, self.objects[path]
        self.looks_until_ready -= 1
        found = self.objects[path]
        ready = {"type": "Ready", "status": "True" if self.looks_until_ready <= 0 else "False", "message": "still loading"}
        status = {"observedGeneration": found["metadata"]["generation"], "conditions": [ready], "url": "http://m.example.com", **self.status}
        return 200, {**found, "status": status}


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def own(stub: Stub, time: FakeTime) -> Iterator[Cluster]:
    """The cluster as a pod sees it."""
    with serving(stub.answer, token="pods-own") as client:
        yield Cluster(client=client, clock=time.clock, backoff=Backoff(attempts=3, first_seconds=0.0))


def test_a_service_is_applied_and_waited_for(stub: Stub, own: Cluster, time: FakeTime) -> None:
    manifest = service().to_json("team-a")
    found = own.serve(manifest, timeout_seconds=100)
    assert found["status"]["url"] == "http://m.example.com"
    (method, path, query, content_type, authorization), *looks = stub.requests
    assert (method, path) == ("PATCH", f"/apis/serving.kserve.io/v1beta1/namespaces/team-a/inferenceservices/{service().name}")
    assert (query, content_type) == ({"fieldManager": ["tuneline"], "force": ["true"]}, "application/apply-patch+yaml")
    assert authorization == "Bearer pods-own"
    assert [look[0] for look in looks] == ["GET", "GET"]
    assert time.moment == 10


def test_a_second_attempt_changes_the_same_object(stub: Stub, own: Cluster) -> None:
    own.serve(service().to_json("team-a"), timeout_seconds=100)
    own.serve(service(uri="gs://b/next").to_json("team-a"), timeout_seconds=100)
    [changed] = stub.objects.values()
    assert (changed["metadata"]["generation"], changed["spec"]["predictor"]["model"]["storageUri"]) == (2, "gs://b/next")


def test_the_status_of_an_earlier_version_says_nothing() -> None:
    ready = {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True"}]}
    assert not is_ready({"metadata": {"name": "m", "generation": 2}, "status": ready})
    assert is_ready({"metadata": {"name": "m", "generation": 1}, "status": ready})


def test_a_model_that_cannot_be_loaded_is_told_with_its_reason(stub: Stub, own: Cluster) -> None:
    stub.status = {"modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": {"reason": "ModelLoadFailed", "message": "no config.json"}}}
    with pytest.raises(ModelError, match=r"BlockedByFailedLoad: ModelLoadFailed no config\.json"):
        own.serve(service().to_json("team-a"), timeout_seconds=100)


def test_a_service_that_does_not_become_ready_is_left_and_told(stub: Stub, own: Cluster) -> None:
    stub.looks_until_ready = 1000
    with pytest.raises(InfrastructureError, match="was not ready within 60 s: still loading"):
        own.serve(service().to_json("team-a"), timeout_seconds=60)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [(403, UserError, "service account"), (404, UserError, "Install KServe"), (422, UserError, ""), (503, InfrastructureError, "")],
)
def test_a_refusal_says_what_to_do(stub: Stub, own: Cluster, status: int, kind: type[Exception], words: str) -> None:
    stub.answers = [status] * 3
    with pytest.raises(kind, match=f"refused with {status}") as caught:
        own.serve(service().to_json("team-a"), timeout_seconds=60)
    assert words in caught.value.next_action  # type: ignore[attr-defined]


def test_what_passes_is_tried_again(stub: Stub, own: Cluster) -> None:
    stub.answers = [503, 429]
    own.serve(service().to_json("team-a"), timeout_seconds=60)
    assert [request[0] for request in stub.requests[:3]] == ["PATCH", "PATCH", "PATCH"]


def test_outside_a_cluster_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(UserError, match="no pod of a Kubernetes cluster"):
        open_client("KServe")
