"""What is turned away before it reaches a route, what no name can reach, and what no answer and no log tells."""

import asyncio
import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Message

from tests.api.asgi import HOST, ask
from tests.api.conftest import PARENT, ROOT
from tests.api.test_pipeline_jobs import request_body
from tuneline.api.app import create_app
from tuneline.api.document import operations
from tuneline.api.jobs import Runner
from tuneline.api.server import open_service, token_in
from tuneline.api.service import Service
from tuneline.api.settings import Settings

JOBS = "/v1/projects/proj/locations/europe-west4/pipelineJobs"
OTHERS = (
    *(("GET", path) for path in ("/openapi.json", "/health", "/", "/nothing", "/storage/v1/b", "/b", "/storage/v1/b/x/o/y", "/download/storage/v1/b/x/o/y")),
    *(("POST", path) for path in ("/storage/v1/b", "/upload/storage/v1/b/x/o", "/resumable/upload/storage/v1/b/x/o", "/batch/storage/v1")),
    *((method, "/upload/storage/v1/b/x/o") for method in ("PUT", "DELETE")),
)
"""Routes that are not in the OpenAPI document, and what is no route."""
DOCUMENT = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
EVERYWHERE = (*((method.upper(), re.sub(r"{\w+}", "x", path)) for path, method, _ in operations(DOCUMENT)), *OTHERS)


@pytest.mark.parametrize("headers", [{"host": "evil.example"}, {"origin": "https://evil.example"}, {"host": "127.0.0.1.evil.example:8080"}, {"origin": "null"}])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_foreign_names_are_refused_on_every_method(client: TestClient, method: str, headers: dict[str, str]) -> None:
    answer = client.request(method, JOBS, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["status"] == "PERMISSION_DENIED"


def test_foreign_names_are_refused_on_every_route(client: TestClient) -> None:
    for foreign in ((b"host", b"evil.example"), (b"origin", b"https://evil.example"), (b"host", b"[::1"), (b"origin", b"http://[")):
        assert [ask(client.app, method, path, headers=[foreign]).status for method, path in EVERYWHERE] == [403] * len(EVERYWHERE)
    assert len(EVERYWHERE) > 190


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


def test_the_token_is_asked_for_on_every_route(settings: Settings) -> None:
    with open_service(replace(settings, token="secret-token")) as service:
        app = create_app(service)
        for headers in ([], [(b"authorization", b"Bearer \xff")], [(b"x-goog-api-key", b"secret")], [(b"authorization", b"Basic secret-token")]):
            answers = [ask(app, method, path, headers=headers) for method, path in EVERYWHERE]
            assert [answer.status for answer in answers] == [401] * len(EVERYWHERE)
            assert not any(b"secret-token" in answer.content for answer in answers)
        assert ask(app, "GET", "/health", headers=[(b"authorization", b"Bearer secret-token")]).json() == {"status": "SERVING"}


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


def test_a_body_that_says_that_it_is_large_is_refused_unread(settings: Settings) -> None:
    with open_service(replace(settings, max_body_bytes=1000, max_upload_bytes=1000)) as service:
        app = create_app(service)
        for length in (b"1001", b"9" * 30, b"9" * 5000):
            for path in (JOBS, "/upload/storage/v1/b/x/o"):
                assert ask(app, "POST", path, headers=[(b"content-length", length)]).status == 413


def test_a_page_has_a_largest_size(client: TestClient, service: Service) -> None:
    with service.store.transaction():
        for number in range(1002):
            service.store.insert("schedules", {"name": f"{PARENT.removeprefix('/v1/')}/schedules/{number}"})
    page = client.get(f"{PARENT}/schedules", params={"pageSize": 100_000}).json()
    assert len(page["schedules"]) == 1000
    assert len(client.get(f"{PARENT}/schedules", params={"pageSize": 100_000, "pageToken": page["nextPageToken"]}).json()["schedules"]) == 2


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


def test_a_client_that_goes_away_is_no_bug(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [*HOST], "root_path": ""}
    asyncio.run(client.app(scope, receive, send))
    assert sent[0]["status"] == 499
    assert not caplog.records


HOSTILE = ("..", "%2e%2e", "%2E%2E%2F%2e%2e%2fescaped", "%2Fescaped", "%2Ftmp%2Fescaped", "..%5Cescaped", "a%00escaped", "escaped%0A", "~escaped", "%252e%252e")
JSON = [(b"content-type", b"application/json")]


def named_everywhere(app: ASGIApp, name: str) -> list[int]:
    """The statuses of requests that have the name, as it stands in an address, at every place for one."""
    plain = unquote(name)
    create: dict[str, object] = {"pipelineJobs": request_body(), "models:upload": {"model": {"displayName": "m"}}, "endpoints": {"displayName": "e"}}
    posted: list[tuple[str, object]] = [
        *((f"/v1/projects/{name}/locations/us-central1/{collection}", body) for collection, body in create.items()),
        *((f"/v1/projects/p/locations/{name}/{collection}", body) for collection, body in create.items()),
        *((f"{PARENT}/{path}={name}", {"displayName": "e"}) for path in ("pipelineJobs?pipelineJobId", "endpoints?endpointId")),
        *((f"{PARENT}/models:upload", {"model": {"displayName": "m"}, field: plain}) for field in ("modelId", "parentModel")),
        *((f"{PARENT}/models:upload", {"model": {"displayName": "m", "artifactUri": f"{start}{plain}/x"}}) for start in ("gs://", "gs://bkt/", "file://", "")),
        *((f"{PARENT}/pipelineJobs", request_body(**{field: f"gs://bkt/{plain}"})) for field in ("catalog_uri", "base_model_uri", "tensorboard_resource_id")),
        ("/storage/v1/b", {"name": plain}),
    ]
    raw = [
        *(("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={named}") for bucket, named in ((name, "escaped"), ("bkt", name))),
        *(("POST", f"/storage/v1/b/bkt/o/{name}/copyTo/b/{bucket}/o/{named}") for bucket, named in ((name, "escaped"), ("bkt", name))),
        *((method, path) for method in ("GET", "DELETE") for path in (f"{PARENT}/models/{name}", f"{PARENT}/pipelineJobs/{name}", f"/storage/v1/b/{name}")),
    ]
    answers = [ask(app, "POST", path, headers=JSON, content=json.dumps(body).encode()) for path, body in posted]
    return [answer.status for answer in (*answers, *(ask(app, method, path, content=b"x") for method, path in raw))]


def test_no_name_leads_out_of_the_services_folders(client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_start", lambda _self, _job_id: None)
    ask(client.app, "POST", "/storage/v1/b", content=b'{"name":"bkt"}')
    before, statuses = set(tmp_path.rglob("*")), []
    for name in HOSTILE:
        statuses += named_everywhere(client.app, name)
    assert max(statuses) < 500
    assert len(statuses) > 200
    made = {path.relative_to(tmp_path) for path in set(tmp_path.rglob("*")) - before}
    assert {path.parts[:2] for path in made} <= {("home", "service"), ("home", "models")}
    assert {path.parts[:4] for path in made if "escaped" in str(path)} == {("home", "service", "buckets", "bkt")}
    assert not any(Path(folder, "escaped").exists() for folder in ("/", "/tmp", tmp_path.parent))


CANARY = "canary-7f3a"


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def test_no_secret_gets_into_an_answer_or_a_log(settings: Settings, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong with the request that bears it."""
    bearer = [(b"authorization", f"Bearer {CANARY}".encode())]
    others = [(b"cookie", CANARY.encode()), (b"x-goog-api-key", CANARY.encode()), (b"content-type", b"application/json"), *bearer]
    garden = {"modelConfig": {"huggingFaceAccessToken": CANARY, "modelDisplayName": "x"}}
    bodies: tuple[object, ...] = (
        garden,
        {**garden, "customModel": {"gcsUri": "/nowhere"}},
        {**garden, "huggingFaceModelId": "owner/name"},
        {"modelConfig": {"huggingFaceAccessToken": [CANARY]}},
        {"modelConfig": {"huggingFaceAccessToken": CANARY, "modelUserId": 5}},
    )
    with open_service(replace(settings, token=CANARY)) as service:
        app = create_app(service)
        answers = [ask(app, method, path, headers=others, content=b"{") for method, path in EVERYWHERE]
        answers += [ask(app, "POST", f"{PARENT}:deploy", headers=others, content=json.dumps(body).encode()) for body in bodies]
        answers += [ask(app, "GET", JOBS, headers=[(b"authorization", f"Bearer {CANARY}x".encode())]), ask(app, "GET", JOBS, headers=[(b"host", b"evil")])]

        def burst(_name: str) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(service.store, "get", burst)
        answers += [ask(app, "GET", f"{JOBS}/a%0Ab", headers=bearer), ask(app, "GET", f"{JOBS}/x", headers=bearer)]
    assert {answer.status for answer in answers} >= {200, 400, 401, 403, 404, 500}
    assert not [answer for answer in answers if CANARY.encode() in answer.content or CANARY in str(answer.headers)]
    assert any("a bug" in record.exc_text for record in told.records if record.exc_text)
    assert CANARY not in told.text


def test_a_log_has_one_line_for_an_address_with_several(service: Service, told: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    def burst(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(service.buckets.objects, "get", burst)
    assert ask(create_app(service), "GET", "/storage/v1/b/bkt/o/a%0AERROR%20forged").status == 500
    assert [record.getMessage() for record in told.records if "forged" in record.getMessage()] == ["GET '/storage/v1/b/bkt/o/a\\nERROR forged'"]
