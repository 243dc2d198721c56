"""What the tests of models and endpoints share: folders of models, servers without a model, operations that are waited for."""

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from tests.api.conftest import OVERLAY
from tests.registry.made_up import write_checkpoint
from tuneline.api.app import create_app
from tuneline.api.server import open_service
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.registry import endpoints
from tuneline.registry.endpoints import Deployment
from tuneline.registry.models import ModelVersion, Registration, register

FAKE_SERVER = Path(__file__).with_name("fake_server.py")
_NUMBERS = itertools.count(1)


def start_fake_servers(patch: pytest.MonkeyPatch) -> list[str]:
    """From now on a model's server is `fake_server.py`. The display names of those that were started."""
    started: list[str] = []

    def spawn(deployment: Deployment, folder: Path) -> "subprocess.Popen[bytes]":
        started.append(deployment.display_name)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "server.log").open("ab") as log:
            return subprocess.Popen([sys.executable, str(FAKE_SERVER), *deployment.command[2:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    patch.setattr(endpoints, "_spawn", spawn)
    return started


def model_folder(folder: Path, content: bytes = b"weights") -> Path:
    """A folder that looks like a model's, without a commit marker."""
    folder.mkdir(parents=True)
    for name, data in {"config.json": b"{}", "model.safetensors": content, "tokenizer.json": b"{}", "modeling.py": b"raise", "pytorch_model.bin": b"x"}.items():
        (folder / name).write_bytes(data)
    return folder


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A service that many tests share, and a project of the test's own."""

    service: Service
    client: TestClient
    place: str

    @property
    def models(self) -> str:
        return f"/v1/{self.place}/models"

    @property
    def endpoints(self) -> str:
        return f"/v1/{self.place}/endpoints"

    def get(self, name: str, **query: Any) -> dict[str, Any]:
        answer = self.client.get(f"/v1/{name}", params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def ended(self, operation: Mapping[str, Any]) -> dict[str, Any]:
        """The operation once it is done, polled as the Google clients do."""
        deadline = time.monotonic() + 60
        while not operation.get("done"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
            operation = self.client.get(f"/ui/{operation['name']}").json()
        return dict(operation)

    def done(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The response of the operation that a POST begins."""
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        operation = self.ended(answer.json())
        assert "error" not in operation, operation["error"]
        response: dict[str, Any] = operation["response"]
        return response

    def upload(self, uri: object = "", name: str = "m", **values: Any) -> str:
        """Upload a model; its resource name with the version."""
        artifact = {"artifactUri": str(uri)} if uri else {}
        request: dict[str, Any] = {key: values.pop(key) for key in ("modelId", "parentModel") if key in values}
        response = self.done(f"{self.models}:upload", {"model": {"displayName": name, **artifact, **values}, **request})
        return f"{response['model']}@{response['modelVersionId']}"

    def tuned(self, folder: Path, job: str = "job-1", name: str = "tuned", base_model: str = "code-bison@002", **values: Any) -> ModelVersion:
        """A model as a pipeline job registers it."""
        _, project, _, location = self.place.split("/")
        registration = Registration(project=project, location=location, display_name=name, pipeline_job_name=job, base_model=base_model, **values)
        return register(write_checkpoint(folder / f"checkpoint of {job}"), registration)

    def new_endpoint(self, name: str = "e", **values: Any) -> str:
        return str(self.done(self.endpoints, {"displayName": name, **values})["name"])

    def deploy(self, endpoint: str, model: str, **values: Any) -> str:
        """Deploy a model; the deployed model's id."""
        request = {key: values.pop(key) for key in ("trafficSplit",) if key in values}
        return str(self.done(f"/v1/{endpoint}:deployModel", {"deployedModel": {"model": model, **values}, **request})["deployedModel"]["id"])

    def again(self) -> "Bench":
        """The service's routes made anew, as after a restart."""
        return replace(self, client=TestClient(create_app(self.service), base_url="http://127.0.0.1"))


@contextlib.contextmanager
def opened(home: Path, *, is_last: bool = True) -> Iterator[Bench]:
    """A service over a folder. Whatever the last one serves ends with it."""
    home.mkdir(exist_ok=True)
    overlay = home / "catalog.toml"
    overlay.write_text(OVERLAY, encoding="utf-8")
    settings = Settings(home=home / "service", runs_dir=home / "runs", catalog=str(overlay))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELINE_HOME", str(home))
        patch.setenv("OMP_NUM_THREADS", "1")
        with contextlib.ExitStack() as at_end:
            if is_last:
                at_end.callback(_stop_servers)
            with open_service(settings) as service:
                yield Bench(service=service, client=TestClient(create_app(service), base_url="http://127.0.0.1"), place="")


def _stop_servers() -> None:
    for endpoint in endpoints.list_endpoints():
        endpoints.remove(endpoint)


def of_its_own(shared: Bench) -> Bench:
    """The shared service with a project that no other test has."""
    return replace(shared, place=f"projects/p{next(_NUMBERS)}/locations/us-central1")


@contextlib.contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The application behind a real socket; its address."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)


def poll_quickly(patch: pytest.MonkeyPatch) -> None:
    """The Google clients wait seconds between two looks at an operation."""
    from google.api_core.retry import retry_unary

    patch.setattr(retry_unary, "time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda seconds: time.sleep(min(seconds, 0.05))))


def error(answer: Any) -> tuple[int, str, str]:
    """Status, name and text of a refusal."""
    body = json.loads(answer.content)["error"]
    assert body["code"] == answer.status_code
    return body["code"], body["status"], body["message"]
