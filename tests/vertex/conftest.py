"""A stub in the place of Google's APIs, and a client that waits for nothing."""

from collections.abc import Iterator

import pytest

from tests.vertex.stub_api import FakeTime, StubApi, serving
from tuneline.vertex.backoff import Backoff
from tuneline.vertex.rest import ENDPOINT, TOKEN, Vertex


@pytest.fixture(scope="session")
def shared_stub() -> Iterator[StubApi]:
    with serving() as stub:
        yield stub


@pytest.fixture
def api(shared_stub: StubApi, monkeypatch: pytest.MonkeyPatch) -> StubApi:
    shared_stub.asked.clear()
    shared_stub.routes.clear()
    monkeypatch.setenv(ENDPOINT, shared_stub.address)
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    return shared_stub


@pytest.fixture
def time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def vertex(api: StubApi, time: FakeTime) -> Vertex:
    return Vertex(region="us-central1", backoff=Backoff(attempts=3), clock=time.clock)
