"""Calls of Vertex AI: what each failure means, what is tried again, where requests and credentials go."""

import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import google.auth
import pytest
import requests
from google.auth.exceptions import DefaultCredentialsError, RefreshError, TransportError

from tests.vertex.stub_api import HANG_UP, Asked, FakeTime, StubApi, error
from tuneline.errors import CapacityError, InfrastructureError, NotFoundError, TunelineError, UserError
from tuneline.vertex import rest
from tuneline.vertex.rest import ENDPOINT, TOKEN, OutcomeUnknown, Refused, Vertex, error_of, open_session

JOBS = "projects/p/locations/us-central1/pipelineJobs"


@pytest.mark.parametrize(
    ("http", "status", "kind", "exit_code"),
    [
        (400, "INVALID_ARGUMENT", Refused, 1),
        (400, "FAILED_PRECONDITION", Refused, 1),
        (401, "UNAUTHENTICATED", Refused, 1),
        (403, "PERMISSION_DENIED", Refused, 1),
        (404, "NOT_FOUND", NotFoundError, 1),
        (409, "ALREADY_EXISTS", Refused, 1),
        (409, "ABORTED", Refused, 1),
        (501, "UNIMPLEMENTED", Refused, 1),
        (408, "DEADLINE_EXCEEDED", InfrastructureError, 13),
        (429, "RESOURCE_EXHAUSTED", CapacityError, 13),
        (500, "INTERNAL", InfrastructureError, 13),
        (503, "UNAVAILABLE", InfrastructureError, 13),
        (504, "DEADLINE_EXCEEDED", InfrastructureError, 13),
    ],
)
def test_each_status_is_an_error_of_its_kind(vertex: Vertex, api: StubApi, http: int, status: str, kind: type[TunelineError], exit_code: int) -> None:
    api.on("GET", "/x", error(http, status))
    with pytest.raises(TunelineError) as raised:
        vertex.get(f"{JOBS}/x")
    assert type(raised.value) is kind
    assert raised.value.exit_code == exit_code
    assert str(raised.value) == f"GET {api.address}/v1/{JOBS}/x: {status}: because"
    if isinstance(raised.value, Refused):
        assert raised.value.status == status


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ({"code": 3}, Refused),
        ({"code": 5}, NotFoundError),
        ({"code": 8}, CapacityError),
        ({"code": 13}, InfrastructureError),
        ({"code": 14}, InfrastructureError),
        ({"code": 405}, Refused),
        ({"code": 418}, Refused),
        ({}, InfrastructureError),
    ],
)
def test_operations_and_answers_without_a_name_are_told_by_their_number(status: Mapping[str, int], kind: type[TunelineError]) -> None:
    assert type(error_of(status, "here")) is kind


@pytest.mark.parametrize("answer", [(502, b"<html>Bad   Gateway</html>"), (502, b""), (502, b'{"error": "text"}'), (502, b"\xff")])
def test_an_error_page_of_a_proxy_is_an_infrastructure_error(vertex: Vertex, api: StubApi, answer: tuple[int, bytes]) -> None:
    api.on("GET", "/x", answer)
    with pytest.raises(InfrastructureError, match=r"UNKNOWN: "):
        vertex.get("x")


@pytest.mark.parametrize("answer", [b"not JSON", b"[1]"])
def test_an_answer_that_is_no_object_is_an_infrastructure_error(vertex: Vertex, api: StubApi, answer: bytes) -> None:
    with pytest.raises(InfrastructureError, match="the answer is no JSON"):
        vertex.call("GET", f"{api.on('GET', '/x', (200, answer)).address}/x", is_repeatable=True)


def test_text_is_utf_8_whatever_the_header_leaves_out(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "/x", (200, {"displayName": "Größe"}))
    assert vertex.get("x") == {"displayName": "Größe"}


def test_a_redirect_is_not_followed(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/x", (302, {}))
    with pytest.raises(UserError, match="leads to https://elsewhere"):
        vertex.post("x", {})
    assert len(api.asked) == 1


@pytest.mark.parametrize("failure", [error(503, "UNAVAILABLE"), error(429, "RESOURCE_EXHAUSTED"), error(408, "DEADLINE_EXCEEDED"), HANG_UP])
def test_a_call_that_may_be_made_twice_is_made_again_after_what_passes(vertex: Vertex, api: StubApi, time: FakeTime, failure: tuple[int, object]) -> None:
    api.on("GET", "/x", failure, failure, (200, {"name": "x"}))
    assert vertex.get("x") == {"name": "x"}
    assert len(api.asked) == 3
    assert len(time.slept) == 2


def test_what_is_refused_is_not_asked_again(vertex: Vertex, api: StubApi, time: FakeTime) -> None:
    api.on("GET", "/x", error(400, "INVALID_ARGUMENT"))
    with pytest.raises(Refused):
        vertex.get("x")
    assert (len(api.asked), time.slept) == (1, [])


def test_the_attempts_end(vertex: Vertex, api: StubApi) -> None:
    api.on("DELETE", "/x", error(500, "INTERNAL"))
    with pytest.raises(InfrastructureError):
        vertex.delete("x")
    assert len(api.asked) == 3


@pytest.mark.parametrize("failure", [error(503, "UNAVAILABLE"), error(500, "INTERNAL"), error(504, "DEADLINE_EXCEEDED"), HANG_UP])
def test_a_call_that_must_not_be_made_twice_ends_with_its_outcome_unknown(vertex: Vertex, api: StubApi, failure: tuple[int, object]) -> None:
    api.on("POST", "/x", failure)
    with pytest.raises(OutcomeUnknown):
        vertex.post("x", {})
    assert len(api.asked) == 1


def test_a_call_that_was_turned_away_or_never_sent_may_be_made_again(vertex: Vertex, api: StubApi, monkeypatch: pytest.MonkeyPatch, time: FakeTime) -> None:
    api.on("POST", "/x", error(429, "RESOURCE_EXHAUSTED"), (200, {"name": "x"}))
    assert vertex.post("x", {"a": 1}) == {"name": "x"}
    assert [asked.body for asked in api.asked] == [{"a": 1}, {"a": 1}]
    time.slept.clear()
    with socket.socket() as closed:  # bound and not listening: nothing answers here
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(InfrastructureError) as raised:
            vertex.post("x", {})
    assert type(raised.value) is InfrastructureError
    assert len(time.slept) == 2


def test_a_post_that_may_be_made_twice_is_made_again(vertex: Vertex, api: StubApi) -> None:
    api.on("POST", "/x", HANG_UP, (200, {}))
    assert vertex.post("x", {}, params={"id": "7"}, is_repeatable=True) == {}
    assert [asked.query for asked in api.asked] == [{"id": ["7"]}] * 2


def test_a_list_is_read_page_by_page(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "/pipelineJobs", (200, {"pipelineJobs": [{"name": "a"}], "nextPageToken": "t"}), (200, {}), (200, {"pipelineJobs": []}))
    assert list(vertex.list(JOBS, filter="x=1")) == [{"name": "a"}]
    assert [asked.query for asked in api.asked] == [{"filter": ["x=1"]}, {"filter": ["x=1"], "pageToken": ["t"]}]


def test_a_custom_list_method_s_answer_is_known_by_the_collection(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "models/7:listVersions", (200, {"7": [{"name": "v"}]}))
    assert list(vertex.list("models/7:listVersions")) == [{"name": "v"}]


def test_a_missing_resource_is_found_to_be_none(vertex: Vertex) -> None:
    assert vertex.find("nowhere") is None


def test_a_patch_names_its_fields(vertex: Vertex, api: StubApi) -> None:
    api.on("PATCH", "/x", (200, {}))
    vertex.patch("x", {"displayName": "y"}, update_mask="displayName")
    assert api.asked[0].query == {"updateMask": ["displayName"]}


def test_an_operation_is_waited_for(vertex: Vertex, api: StubApi, time: FakeTime) -> None:
    api.on("GET", "/operations/1", (200, {"name": "operations/1"}), (200, {"name": "operations/1", "done": True, "response": {"model": "m"}}))
    looks: list[float] = []
    assert vertex.wait({"name": "operations/1"}, each_time=lambda: looks.append(time.moment)) == {"model": "m"}
    assert looks == [rest.POLL_SECONDS, 2 * rest.POLL_SECONDS]


def test_an_operation_that_is_done_is_not_asked_for(vertex: Vertex, api: StubApi) -> None:
    assert vertex.wait({"name": "operations/1", "done": True, "response": {"model": "m"}}) == {"model": "m"}
    assert vertex.wait({"name": "operations/1", "done": True}) == {}
    assert api.asked == []


def test_an_operation_that_fails_raises_its_error(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "/operations/1", (200, {"name": "operations/1", "done": True, "error": {"code": 9, "message": "no"}}))
    with pytest.raises(Refused, match="operation operations/1: FAILED_PRECONDITION: no"):
        vertex.wait({"name": "operations/1"})


@pytest.mark.parametrize("token", ["", "a-token"])
def test_another_address_gets_its_own_token_and_no_credentials_of_google(api: StubApi, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setattr(google.auth, "default", lambda **_: pytest.fail("Google's credentials are not for this address"))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv(TOKEN, token)
    monkeypatch.setenv(ENDPOINT, api.address + "/")
    api.on("GET", "/x", (200, {}))
    Vertex(region="us-central1").get("x")
    assert api.asked[0].headers.get("authorization") == (f"Bearer {token}" if token else None)
    assert api.asked[0].path == "/v1/x"


def test_without_another_address_google_s_own_for_the_region_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    assert Vertex(region="europe-west4", session=requests.Session()).address == "https://europe-west4-aiplatform.googleapis.com"


@pytest.mark.parametrize("region", ["", "evil.example.com/", "me@evil.example.com#", "us central1", "US"])
def test_a_region_cannot_lead_credentials_to_another_host(monkeypatch: pytest.MonkeyPatch, region: str) -> None:
    monkeypatch.delenv(ENDPOINT, raising=False)
    session = FailingSession(failures=[])
    with pytest.raises(UserError, match="expected a name such as us-central1"):
        Vertex(region=region, session=session).get("x")  # type: ignore[arg-type]  # the one method that is used
    assert session.calls == 0


@pytest.mark.parametrize("address", ["127.0.0.1:8080", "ftp://127.0.0.1", "http://"])
def test_an_address_that_is_none_is_the_user_s_error(monkeypatch: pytest.MonkeyPatch, address: str, time: FakeTime) -> None:
    monkeypatch.setenv(ENDPOINT, address)
    with pytest.raises(UserError) as raised:
        Vertex(region="us-central1", clock=time.clock).get("x")
    assert ENDPOINT in raised.value.next_action
    assert time.slept == []


def test_missing_credentials_are_the_user_s_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def default(**_: object) -> None:
        raise DefaultCredentialsError("File nowhere.json was not found.\nMore.")

    monkeypatch.delenv(ENDPOINT, raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    with pytest.raises(UserError, match=r"no Google credentials on this machine: File nowhere.json was not found.$") as raised:
        open_session()
    assert "gcloud auth application-default login" in raised.value.next_action


def test_google_s_credentials_are_asked_for_the_platform_s_scope(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def default(scopes: object) -> tuple[object, str]:
        asked.append(scopes)
        return object(), "p"

    monkeypatch.delenv(ENDPOINT, raising=False)
    monkeypatch.setattr(google.auth, "default", default)
    assert isinstance(open_session(), requests.Session)
    assert asked == [rest.SCOPES]


@dataclass
class FailingSession:
    """A session that cannot get a token."""

    failures: list[Exception]
    calls: int = 0

    def request(self, method: str, url: str, **_: object) -> requests.Response:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        response = requests.Response()
        response.status_code = 200
        response._content = b"{}"
        return response


def caused_by(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "failure",
    [
        lambda: TransportError("no route"),
        lambda: RefreshError("busy", retryable=True),
        lambda: caused_by(RefreshError("metadata"), TransportError("no route")),
    ],
)
def test_a_token_that_cannot_be_fetched_now_is_asked_for_again_also_for_a_call_made_once(api: StubApi, time: FakeTime, failure: object) -> None:
    assert callable(failure)
    session = FailingSession(failures=[failure()])
    Vertex(region="r", session=session, clock=time.clock).post("x", {})  # type: ignore[arg-type]  # the one method that is used
    assert session.calls == 2


def test_credentials_that_do_not_hold_are_the_user_s_error(api: StubApi, time: FakeTime) -> None:
    session = FailingSession(failures=[RefreshError("invalid_grant")])
    with pytest.raises(UserError, match="invalid_grant") as raised:
        Vertex(region="r", session=session, clock=time.clock).get("x")  # type: ignore[arg-type]  # the one method that is used
    assert raised.value.next_action == rest.LOG_IN


def test_a_bug_stays_a_bug(api: StubApi, time: FakeTime) -> None:
    with pytest.raises(ZeroDivisionError):
        Vertex(region="r", session=FailingSession(failures=[ZeroDivisionError()]), clock=time.clock).get("x")  # type: ignore[arg-type]


def test_headers_and_repeated_parameters_are_sent(vertex: Vertex, api: StubApi) -> None:
    api.on("GET", "/x", lambda asked: (200, {"seen": seen(asked)}))
    answer = vertex.call("GET", f"{api.address}/x", params={"permissions": ["a", "b"]}, headers={"Accept": "text/plain"}, is_repeatable=True)
    assert answer == {"seen": ["a", "b", "text/plain"]}


def seen(asked: Asked) -> list[str]:
    return [*asked.query["permissions"], asked.headers["accept"]]


@pytest.mark.parametrize("missing", ["requests", "google.auth"])
def test_a_package_that_is_missing_is_named(missing: str) -> None:
    program = (
        f"import os, sys; sys.modules[{missing!r}] = None; os.environ.pop('{ENDPOINT}', None)\n"
        "from tuneline.errors import UserError\nfrom tuneline.vertex.rest import open_session\n"
        "try: open_session()\nexcept UserError as error: print(error, error.next_action)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert f"needs the package {missing}, which is not installed. pip install 'tuneline[vertex]'" in done.stdout
