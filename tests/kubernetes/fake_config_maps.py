"""ConfigMaps of one namespace, as the Kubernetes API keeps them: a change names the version that it is made from, and comes too late when there is another."""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from kubernetes.client import ApiClient

from tests.kubernetes.api_server import Answer, Json, Request, serving

NAMESPACE = "team-a"
PATH = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
MOST_BYTES = 2**20


@dataclass
class FakeConfigMaps:
    """By name. `faults` befall the next changes: `lost` is carried out and not answered, a number is answered instead."""

    objects: dict[str, Json] = field(default_factory=dict)
    faults: list[str | int] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    """Methods that the account may not use."""
    asked: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def answer(self, request: Request) -> Answer:
        with self._lock:
            self.asked.append(request.method)
            if request.method in self.forbidden:
                return 403, {"message": "configmaps is forbidden"}
            if request.method == "GET":
                return self._handle(request)
            fault = self.faults.pop(0) if self.faults else ""
            if isinstance(fault, int):
                return fault, {"message": "because"}
            answered = self._handle(request)
            return None if fault == "lost" else answered

    def _handle(self, request: Request) -> Answer:
        name = request.path.removeprefix(PATH).lstrip("/") or (request.body or {})["metadata"]["name"]
        assert request.path in (PATH, f"{PATH}/{name}")
        known = self.objects.get(name)
        if request.method == "POST" and known:
            return 409, {"reason": "AlreadyExists", "message": "already exists"}
        if request.method != "POST" and not known:
            return 404, {"message": f'configmaps "{name}" not found'}
        if request.method == "GET":
            return 200, known or {}
        assert request.body is not None
        data = request.body.get("data", {})
        assert all(isinstance(value, str) for value in data.values())
        assert sum(map(len, [*data, *data.values()])) <= MOST_BYTES
        version = known["metadata"]["resourceVersion"] if known else "0"
        if known and request.body["metadata"].get("resourceVersion") != version:
            return 409, {"reason": "Conflict", "message": "the object has been modified"}
        if request.query.get("dryRun") == ["All"]:
            return 200, known or request.body
        metadata = {**request.body["metadata"], "namespace": NAMESPACE, "resourceVersion": str(int(version) + 1)}
        self.objects[name] = {**request.body, "metadata": metadata}
        return (200 if known else 201), self.objects[name]


@contextlib.contextmanager
def config_maps() -> Iterator[tuple[FakeConfigMaps, ApiClient]]:
    """The fake, and the real client for it."""
    fake = FakeConfigMaps()
    with serving(fake.answer) as client:
        yield fake, client
