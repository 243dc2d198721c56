"""What is turned away before it reaches a route."""

from dataclasses import replace

import pytest
from fastapi.testclient import TestClient

from tuneline.api.app import create_app
from tuneline.api.server import open_service, token_in
from tuneline.api.service import Service
from tuneline.api.settings import Settings

JOBS = "/v1/projects/proj/locations/europe-west4/pipelineJobs"


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example:8080"}, {"origin": "null"}])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_foreign_names_are_refused_on_every_method(client: TestClient, method: str, headers: dict[str, str]) -> None:
    answer = client.request(method, JOBS, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["status"] == "PERMISSION_DENIED"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "[::1]:8080"])
def test_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get(JOBS, headers={"host": host}).status_code == 200


@pytest.fixture
def guarded(settings: Settings) -> Settings:
    return replace(settings, token="secret-token", requests_per_second=0.001, burst=8)


def test_the_token_is_asked_for(guarded: Settings) -> None:
    with open_service(guarded) as service:
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "secret-token"}, {"authorization": "Bearer "}):
            answer = client.get(JOBS, headers=headers)
            assert answer.status_code == 401
            assert "secret-token" not in answer.text
        assert client.get(JOBS, headers={"authorization": "Bearer secret-token"}).status_code == 200
        assert client.get(JOBS, headers={"x-goog-api-key": "secret-token"}).status_code == 200


def test_requests_beyond_the_rate_are_refused(guarded: Settings) -> None:
    with open_service(replace(guarded, token="")) as service:
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        codes = [client.get(JOBS).status_code for _ in range(12)]
    assert codes == [200] * 8 + [429] * 4


def test_large_bodies_are_refused_whatever_the_header_says(settings: Settings) -> None:
    with open_service(replace(settings, max_body_bytes=1000)) as service:
        client = TestClient(create_app(service), base_url="http://127.0.0.1")
        assert client.post(JOBS, content=b"x" * 1001).status_code == 413
        answer = client.post(JOBS, content=(b"x" * 100 for _ in range(11)), headers={"content-type": "application/json"})
        assert answer.status_code == 413


def test_the_token_is_made_once_and_private(settings: Settings) -> None:
    first = token_in(settings.home)
    assert len(first) > 30
    assert token_in(settings.home) == first
    assert (settings.home / "token").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("path", ["/nothing", "/v1/projects/p/locations/l/nothing", "/v1/projects/p/locations/l/pipelineJobs/x:fly"])
def test_unknown_routes_are_answered_in_the_same_form(client: TestClient, path: str) -> None:
    answer = client.post(path, json={})
    assert answer.status_code in (404, 405)
    assert set(answer.json()["error"]) == {"code", "message", "status"}


def test_a_bug_shows_no_trace(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(_name: str) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(service.store, "get", burst)
    client = TestClient(create_app(service), base_url="http://127.0.0.1", raise_server_exceptions=False)
    answer = client.get(f"{JOBS}/x")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error"]["status"] == "INTERNAL"
