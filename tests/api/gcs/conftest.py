"""A storage service over an empty folder, on a free port, and the clients that people use."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from starlette.exceptions import HTTPException

from tuneline.api.gcs import Buckets, router_of
from tuneline.api.gcs.wire import unknown


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "buckets"


@pytest.fixture
def buckets(folder: Path) -> Iterator[Buckets]:
    buckets = Buckets(folder, max_object_bytes=64 << 20)
    yield buckets
    buckets.close()


class Current:
    """The storage layer of the test that runs. The routes over it are made once: making them takes longer than most tests."""

    def __init__(self) -> None:
        self.buckets: Buckets | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self.buckets, name)


@pytest.fixture(scope="session")
def current() -> Current:
    return Current()


@pytest.fixture(scope="session")
def application(current: Current) -> FastAPI:
    app = FastAPI(exception_handlers={HTTPException: unknown})
    app.include_router(router_of(current))
    return app


class Server(uvicorn.Server):
    """uvicorn in a thread."""

    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, log_level="warning", lifespan="off"))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, kwargs={"sockets": [self.socket]}, daemon=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@pytest.fixture(scope="session")
def server(application: FastAPI) -> Iterator[str]:
    """The address of the service."""
    server = Server(application)
    server.thread.start()
    assert server.ready.wait(10)
    yield f"http://127.0.0.1:{server.socket.getsockname()[1]}"
    server.should_exit = True
    server.thread.join(10)


@pytest.fixture
def address(server: str, current: Current, buckets: Buckets) -> str:
    """The address of the service, over this test's folder."""
    current.buckets = buckets
    return server


@pytest.fixture
def http(application: FastAPI, current: Current, buckets: Buckets) -> TestClient:
    """The service without a socket, with a bucket `bkt`."""
    current.buckets = buckets
    buckets.insert("bkt", {})
    return TestClient(application, raise_server_exceptions=False)


@pytest.fixture
def client(address: str, monkeypatch: pytest.MonkeyPatch) -> storage.Client:
    """google-cloud-storage, as its documentation says to point it at an emulator."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    return storage.Client(project="proj", credentials=AnonymousCredentials())


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for the disk, for tests of thousands of writes."""
    monkeypatch.setattr("os.fsync", lambda _: None)
