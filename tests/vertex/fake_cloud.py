"""Vertex AI's REST API and Cloud Storage in memory, as far as registering and deploying touch them.

What is made by a long-running operation is there when the operation has ended, and shows a while later. Ids that exist, or are just being made, are
refused. `interrupt` is called before and after every request, with what is asked: a test may let others run there, or break the connection.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from tests.registry.made_up import CONTENT
from tuneline.vertex.backoff import Backoff, Clock
from tuneline.vertex.cloud import Cloud
from tuneline.vertex.objects import Objects, StoredObject

Json = dict[str, Any]
NUMBER = "123456789"
"""The project's, which the API puts in the place of its id."""


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, message: str, name: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.name = {"status": name} if name else {}


@dataclass
class Operation:
    name: str
    ends_at: float
    work: Callable[[], Json]
    state: Json


class FakeVertex:
    """The session of `tuneline.vertex.rest.Vertex`: answers requests."""

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self.now = now
        self.operation_seconds = 0.0
        self.interrupt: Callable[[str, str], None] = lambda when, what: None
        self.refuse: Callable[[str], Refusal | None] = lambda what: None
        self.requests: list[tuple[str, Json]] = []
        self.versions: dict[str, list[Json]] = {}
        self.evaluations: dict[str, list[Json]] = {}
        self.endpoints: dict[str, Json] = {}
        self.others: dict[str, Json] = {}
        """Resources without rules: TensorBoard's, custom jobs."""
        self.points: dict[tuple[str, int], float] = {}
        self._taken: set[str] = set()
        self._operations: dict[str, Operation] = {}

    def request(self, method: str, url: str, *, params: Mapping[str, str] | None = None, json: Json | None = None, **_: object) -> Any:
        path = urlsplit(url).path.removeprefix("/v1/")
        what = f"{method} {path}"
        self.interrupt("before", what)
        if method != "GET":
            self.requests.append((what, json or {}))
        try:
            self._end_operations()
            answer = _answer(200, self._route(method, path, dict(params or {}), json or {}))
        except Refusal as refusal:
            answer = _answer(refusal.status, {"error": {"code": refusal.status, "message": str(refusal), **refusal.name}})
        self.interrupt("after", what)
        return answer

    def asked(self, words: str) -> list[Json]:
        """The bodies of the requests in whose address the words are."""
        return [body for what, body in self.requests if words in what]

    def fail_operations(self, error: Json) -> None:
        """End what is under way with an error."""
        for operation in self._operations.values():
            if "done" not in operation.state:
                operation.state = {"name": operation.name, "done": True, "error": error}
        self._taken.clear()

    def running(self, name: str, **fields: object) -> None:
        """A resource that is there already."""
        self.others[name] = {"name": name, **fields}

    # Routes

    def _route(self, method: str, path: str, params: Json, body: Json) -> Json:
        if refusal := self.refuse(f"{method} {path}"):
            raise refusal
        if path in self._operations:
            return self._operations[path].state
        if path.endswith("/models:upload"):
            return self._upload(path.removesuffix(":upload"), body)
        if match := re.fullmatch(r"(.*/models/[^/]+)/evaluations(:import)?", path):
            return self._evaluations(match[1], body if match[2] else None)
        if "/models/" in path:
            return self._version(path)
        if path.endswith("/endpoints") and method == "POST":
            return self._create_endpoint(f"{path}/{params['endpointId']}", body)
        if path.endswith(":deployModel"):
            return self._deploy(path.removesuffix(":deployModel"), body)
        if path.endswith(":undeployModel"):
            return self._undeploy(path.removesuffix(":undeployModel"), body)
        if "/endpoints/" in path:
            return self._endpoint(path, body if method == "PATCH" else None)
        if path.endswith("/endpoints"):
            return {"endpoints": list(self.endpoints.values())}
        if path.endswith(":write"):
            return self._write(path.removesuffix(":write"), body)
        return self._other(method, path, params, body)

    def _upload(self, models: str, body: Json) -> Json:
        if ("parentModel" in body) == ("modelId" in body):
            raise Refusal(400, "one of parentModel and modelId is expected here")
        name = body.get("parentModel") or f"{models}/{body['modelId']}"
        if "parentModel" in body and name not in self.versions:
            raise Refusal(404, f"{name} not found")
        if "modelId" in body and (name in self.versions or name in self._taken):
            raise Refusal(409, f"{name} exists")
        self._taken.add(name)

        def work() -> Json:
            versions = self.versions.setdefault(name, [])
            aliases = body["model"]["versionAliases"]
            for other in versions:
                other["versionAliases"] = [alias for alias in other["versionAliases"] if alias not in aliases]
            number = str(len(versions) + 1)
            versions.append({**body["model"], "versionId": number, "versionCreateTime": "2026-11-29T10:00:00Z", "name": name.replace("acme", NUMBER, 1)})
            return {"model": name.replace("acme", NUMBER, 1), "modelVersionId": number}

        return self._begin(name, work)

    def _version(self, path: str) -> Json:
        name, _, wanted = path.partition("@")
        for version in self.versions.get(name, []):
            if (wanted or "default") in (version["versionId"], *version["versionAliases"]):
                return version
        raise Refusal(404, f"{path} not found")

    def _evaluations(self, model: str, body: Json | None) -> Json:
        found = self.evaluations.setdefault(model, [])
        if body is None:
            return {"modelEvaluations": found}
        found.append({**body["modelEvaluation"], "name": f"{model}/evaluations/{len(found) + 1}"})
        return found[-1]

    def _create_endpoint(self, name: str, body: Json) -> Json:
        if name in self.endpoints or name in self._taken:
            raise Refusal(409, f"{name} exists")
        self._taken.add(name)

        def work() -> Json:
            dns = {"dedicatedEndpointDns": "e.example.com"} if body.get("dedicatedEndpointEnabled") else {}
            self.endpoints[name] = {**body, "name": name.replace("acme", NUMBER, 1), "deployedModels": [], "trafficSplit": {}, "etag": "1", **dns}
            return {"name": name}

        return self._begin(name, work)

    def _endpoint(self, name: str, change: Json | None) -> Json:
        if name not in self.endpoints:
            raise Refusal(404, f"{name} not found")
        if change is not None:
            found = self.endpoints[name]
            if change.get("etag", found["etag"]) != found["etag"]:
                raise Refusal(409, "etag", "ABORTED")
            self.endpoints[name] = {**found, **change, "etag": str(int(found["etag"]) + 1)}
        return self.endpoints[name]

    def _deploy(self, endpoint: str, body: Json) -> Json:
        found, deployed, split = self._endpoint(endpoint, None), body["deployedModel"], body["trafficSplit"]
        if f"{endpoint} {deployed['id']}" in self._taken:
            raise Refusal(400, f"{deployed['id']} is used already")
        if sum(split.values()) != 100 or not split.keys() <= {"0", *(other["id"] for other in found["deployedModels"])}:
            raise Refusal(400, f"trafficSplit {split}")
        self._version(deployed["model"])
        self._taken.add(f"{endpoint} {deployed['id']}")

        def work() -> Json:
            model, _, version = deployed["model"].partition("@")
            added = {**deployed, "model": model.replace("acme", NUMBER, 1), "modelVersionId": version}
            now = self.endpoints[endpoint]
            shares = {deployed["id"] if key == "0" else key: share for key, share in split.items()}
            self.endpoints[endpoint] = {**now, "deployedModels": [*now["deployedModels"], added], "trafficSplit": shares}
            return {"deployedModel": added}

        return self._begin(endpoint, work)

    def _undeploy(self, endpoint: str, body: Json) -> Json:
        found, gone = self._endpoint(endpoint, None), body["deployedModelId"]
        kept = [deployed for deployed in found["deployedModels"] if deployed["id"] != gone]
        split = body.get("trafficSplit", {})
        if kept and (sum(split.values()) != 100 or gone in split):
            raise Refusal(400, f"trafficSplit {split}")

        def work() -> Json:
            self.endpoints[endpoint] = {**self.endpoints[endpoint], "deployedModels": kept, "trafficSplit": split if kept else {}}
            self._taken.discard(f"{endpoint} {gone}")
            return {}

        return self._begin(endpoint, work)

    def _write(self, run: str, body: Json) -> Json:
        for series in body["timeSeriesData"]:
            name = f"{run}/timeSeries/{series['tensorboardTimeSeriesId']}"
            if name not in self.others:
                raise Refusal(404, f"{name} not found")
            for value in series["values"]:
                self.points[self.others[name]["displayName"], int(value["step"])] = value["scalar"]["value"]
        return {}

    def _other(self, method: str, path: str, params: Json, body: Json) -> Json:
        collection = path.rpartition("/")[2]
        if method == "POST":
            [own_id] = [value for key, value in params.items() if key.endswith("Id")] or [str(len(self.others))]
            name = f"{path}/{own_id}"
            if name in self.others:
                raise Refusal(409, f"{name} exists")
            self.running(name, **body)
            return self.others[name]
        if path in self.others:
            return self.others[path]
        if collection in ("customJobs", "schedules"):
            return {collection: [found for name, found in self.others.items() if name.startswith(f"{path}/")]}
        raise Refusal(404, f"{path} not found")

    # Operations

    def _begin(self, resource: str, work: Callable[[], Json]) -> Json:
        name = f"{resource.replace('acme', NUMBER, 1)}/operations/{len(self._operations) + 1}"
        self._operations[name] = Operation(name, self.now() + self.operation_seconds, work, {"name": name})
        return {"name": name}

    def _end_operations(self) -> None:
        for operation in self._operations.values():
            if "done" not in operation.state and operation.ends_at <= self.now():
                operation.state = {"name": operation.name, "done": True, "response": operation.work()}


def _answer(status: int, body: Json) -> Any:
    text = json.dumps(body)
    return SimpleNamespace(status_code=status, text=text, content=text.encode(), headers={})


class FakeObjects(Objects):
    """Objects in memory, with generations and checksums."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, int]] = {}
        self.locations = {"pipeline-root": "us-central1"}
        self.buckets: list[tuple[str, str, str, str]] = []
        self.copies: list[tuple[str, str, str]] = []
        self.interrupt: Callable[[str, str], None] = lambda when, what: None

    def put(self, uri: str, content: bytes) -> None:
        self.objects[uri] = (content, self.objects.get(uri, (b"", 0))[1] + 1)

    def read(self, uri: str) -> tuple[bytes, int] | None:
        self.interrupt("before", f"read {uri}")
        return self.objects.get(uri)

    def write(self, uri: str, content: bytes, *, generation: int) -> int | None:
        self.interrupt("before", f"write {uri}")
        if self.objects.get(uri, (b"", 0))[1] != generation:
            return None
        self.put(uri, content)
        self.interrupt("after", f"write {uri}")
        return generation + 1

    def list(self, folder: str, expected: Collection[str] = ()) -> dict[str, StoredObject]:
        prefix = f"{folder.rstrip('/')}/"
        found = {uri.removeprefix(prefix): content for uri, (content, _) in self.objects.items() if uri.startswith(prefix)}
        return {name: StoredObject(num_bytes=len(content), crc32c=_checksum(content)) for name, content in found.items()}

    def copy(self, source: str, target: str, *, key: str = "") -> None:
        self.interrupt("before", f"copy {target}")
        self.copies.append((source, target, key))
        self.put(target, self.objects[source][0])
        self.interrupt("after", f"copy {target}")

    def bucket_location(self, bucket: str) -> str:
        return self.locations[bucket]

    def ensure_bucket(self, name: str, *, project: str, region: str, key: str = "") -> None:
        if name not in self.locations:
            self.locations[name] = region
            self.buckets.append((name, project, region, key))


def _checksum(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()[:4]).decode()


def checkpoint(objects: FakeObjects, uri: str = "gs://pipeline-root/run/checkpoints/checkpoint-20", content: dict[str, bytes] = CONTENT) -> str:
    """A whole checkpoint; its URI."""
    for name, data in content.items():
        objects.put(f"{uri}/{name}", data)
    files = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in content.items()}
    objects.put(f"{uri}/COMMIT.json", json.dumps({"step": 20, "files": files, "state": {"optimizer.safetensors": {}}}).encode())
    return uri


def cloud_of(api: FakeVertex, objects: FakeObjects, clock: Clock) -> Cloud:
    """What a task sees."""
    return Cloud(objects=objects, session=api, clock=clock, backoff=Backoff(attempts=3, first_seconds=0.0))
