"""Faults on purpose, as clients see them: over a real socket where a connection breaks, and nothing at all when they are off."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import requests
from fastapi.testclient import TestClient

from tests.api.custom_job_bench import wait_for
from tests.api.endpoint_bench import Bench, listening, opened, poll_quickly
from tuneline.api.app import create_app
from tuneline.api.fault_injection import KINDS, FaultInjection, Faults, fate_of, without_young
from tuneline.api.settings import Settings
from tuneline.cli import serve
from tuneline.errors import UsageError

BUCKETS, PLACE = "/storage/v1/b", "/v1/projects/p/locations/us-central1"
Faulty = Callable[..., AbstractContextManager[tuple[str, Counter[str]]]]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with opened(tmp_path_factory.mktemp("home")) as bench:
        yield bench


@pytest.fixture
def faulty(shared: Bench) -> Faulty:
    """The service behind a socket with these faults: its address, and what was injected."""

    @contextmanager
    def serving(**shares: Any) -> Iterator[tuple[str, Counter[str]]]:
        injected: Counter[str] = Counter()
        with listening(FaultInjection(shared.client.app, Faults(**shares), injected)) as url:
            yield url, injected

    return serving


def fates(count: int = 2000, **shares: Any) -> list[tuple[str | None, float, bool]]:
    draws = Random(shares.get("seed", 0))
    return [(fate.kind, fate.delay_seconds, fate.is_stale) for fate in (fate_of(Faults(**shares), draws) for _ in range(count))]


def test_the_seed_and_the_order_of_requests_say_what_happens(shared: Bench) -> None:
    shares = {"unavailable": 0.3, "reset": 0.2}

    def statuses(**more: Any) -> list[int]:
        client = TestClient(FaultInjection(shared.client.app, Faults(**shares, **more), Counter()), base_url="http://127.0.0.1")
        return [status_of(client) for _ in range(60)]

    first = statuses(seed=7)
    assert set(first) == {200, 503, 0}
    assert statuses(seed=7) == first
    assert statuses(seed=8) != first
    slowed = [(kind, stale) for kind, _, stale in fates(seed=7, slow=0.5, stale_list=0.1, **shares)]
    assert slowed == [(kind, stale) for kind, _, stale in fates(seed=7, stale_list=0.1, **shares)]


def status_of(client: TestClient) -> int:
    try:
        return int(client.get(BUCKETS).status_code)
    except ConnectionResetError:
        return 0


def test_faults_come_as_often_as_was_said() -> None:
    shares = {"unavailable": 0.05, "too_many_requests": 0.04, "reset": 0.03, "lost_response": 0.02}
    seen = fates(20000, **shares, slow=0.1, delay_seconds=5.0, stale_list=0.2)
    counts = Counter(kind for kind, _, _ in seen)
    assert {kind: counts[kind] / 20000 for kind in KINDS} == pytest.approx(shares, abs=0.01)
    delays = [delay for _, delay, _ in seen if delay]
    assert len(delays) / 20000 == pytest.approx(0.1, abs=0.01)
    assert 0 < min(delays) < 0.1 < 4.9 < max(delays) < 5
    assert sum(stale for _, _, stale in seen) / 20000 == pytest.approx(0.2, abs=0.01)
    assert set(fates()) == {(None, 0.0, False)}


@pytest.mark.parametrize(("kind", "status", "name"), [("unavailable", 503, "UNAVAILABLE"), ("too_many_requests", 429, "RESOURCE_EXHAUSTED")])
def test_a_refused_request_is_not_executed(faulty: Faulty, shared: Bench, kind: str, status: int, name: str) -> None:
    with faulty(**{kind: 1.0}) as (url, injected):
        for path in (BUCKETS, f"{PLACE}/endpoints", "/upload/storage/v1/b/x/o", "/ui/projects/p/locations/l/operations/1"):
            answer = requests.post(f"{url}{path}", json={"name": kind.replace("_", "-"), "displayName": "e"}, timeout=10)
            assert (answer.status_code, answer.json()["error"]["status"]) == (status, name)
        assert requests.get(f"{url}/health", timeout=10).json() == {"status": "SERVING"}
        assert injected == {"requests": 4, kind: 4}
    assert kind.replace("_", "-") not in bucket_names(shared)


@pytest.mark.parametrize(("kind", "is_executed"), [("reset", False), ("lost_response", True)])
def test_a_broken_connection_is_a_reset_before_or_after_the_work(faulty: Faulty, shared: Bench, kind: str, is_executed: bool) -> None:
    name = f"bucket-{kind.replace('_', '-')}"
    with faulty(**{kind: 1.0}) as (url, injected):
        with pytest.raises(requests.ConnectionError) as caught:
            requests.post(f"{url}{BUCKETS}", json={"name": name}, timeout=10)
        assert injected == {"requests": 1, kind: 1}
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(b"GET /storage/v1/b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            with pytest.raises(ConnectionResetError):  # no ordinary end
                connection.recv(1)
    assert isinstance(caught.value.args[0].args[1], ConnectionResetError)
    assert (name in bucket_names(shared)) is is_executed


def test_a_connection_that_was_kept_open_breaks_in_the_middle(faulty: Faulty) -> None:
    seed = next(seed for seed in range(1000) if [kind for kind, _, _ in fates(3, seed=seed, reset=0.5)] == [None, "reset", None])
    with faulty(seed=seed, reset=0.5) as (url, _), requests.Session() as session:
        assert session.get(f"{url}{BUCKETS}", timeout=10).status_code == 200
        with pytest.raises(requests.ConnectionError):
            session.get(f"{url}{BUCKETS}", timeout=10)
        assert session.get(f"{url}{BUCKETS}", timeout=10).status_code == 200


def test_a_large_upload_may_be_committed_and_its_answer_lost(faulty: Faulty) -> None:
    content = bytes(5 << 20)
    seed = next(seed for seed in range(1000) if [kind for kind, _, _ in fates(3, seed=seed, lost_response=0.5)] == [None, "lost_response", None])
    with faulty(seed=seed, lost_response=0.5) as (url, _):
        requests.post(f"{url}{BUCKETS}", json={"name": "large"}, timeout=10)
        question = {"uploadType": "media", "name": "o", "ifGenerationMatch": "0"}
        with pytest.raises(requests.ConnectionError):
            requests.post(f"{url}/upload{BUCKETS}/large/o", params=question, data=content, timeout=10)
        again = requests.post(f"{url}/upload{BUCKETS}/large/o", params=question, data=content, timeout=10)
        assert again.status_code == 412


def test_a_slow_answer_comes_after_the_work_was_done(faulty: Faulty, shared: Bench) -> None:
    seed = next(seed for seed in range(1000) if [delay > 0.6 for _, delay, _ in fates(2, seed=seed, slow=1.0, delay_seconds=1.0)] == [True, False])
    with faulty(seed=seed, slow=1.0, delay_seconds=1.0) as (url, injected):
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{url}{BUCKETS}", json={"name": "slow"}, timeout=0.2)
        wait_for(lambda: "slow" in bucket_names(shared))
        assert requests.post(f"{url}{BUCKETS}", json={"name": "slow"}, timeout=10).status_code == 409
        assert injected == {"requests": 2, "slow": 2}


def test_a_stale_list_lacks_what_is_young_and_a_get_does_not(faulty: Faulty) -> None:
    with faulty(stale_list=1.0, stale_seconds=3600) as (url, injected):
        requests.post(f"{url}{BUCKETS}", json={"name": "young"}, timeout=10)
        endpoint = requests.post(f"{url}{PLACE}/endpoints", json={"displayName": "e"}, timeout=10).json()["response"]["name"]
        assert requests.get(f"{url}{BUCKETS}", timeout=10).json() == {"kind": "storage#buckets", "items": []}
        assert requests.get(f"{url}{PLACE}/endpoints", timeout=10).json() == {"endpoints": []}
        assert requests.get(f"{url}{BUCKETS}/young", timeout=10).json()["name"] == "young"
        assert requests.get(f"{url}/v1/{endpoint}", timeout=10).json()["name"] == endpoint
        assert requests.get(f"{url}{BUCKETS}/none", timeout=10).status_code == 404
        content = json.dumps({"items": [{"createTime": "2999-01-01T00:00:00Z"}]})
        question = {"uploadType": "media", "name": "list.json"}
        requests.post(f"{url}/upload{BUCKETS}/young/o", params=question, data=content, headers={"Content-Type": "application/json"}, timeout=10)
        assert requests.get(f"{url}{BUCKETS}/young/o/list.json", params={"alt": "media"}, timeout=10).text == content
        assert injected == {"requests": 9, "stale_list": 2}
    with faulty(stale_list=1.0, stale_seconds=0) as (url, injected):
        assert [found["name"] for found in requests.get(f"{url}{PLACE}/endpoints", timeout=10).json()["endpoints"]] == [endpoint]
        assert injected == {"requests": 1}


def test_only_young_resources_of_lists_are_left_out() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    young, old = {"name": "y", "createTime": "2026-11-23T23:59:58.000Z"}, {"name": "o", "timeCreated": "2026-11-23T23:59:50Z"}
    horizon = now - timedelta(seconds=5)
    page = {"models": [young, old, {"name": "z"}, "text"], "prefixes": ["a/"], "nextPageToken": "t"}
    assert without_young(page, horizon) == ({**page, "models": [old, {"name": "z"}, "text"]}, 1)
    assert without_young({"name": "e", "deployedModels": [young]}, horizon) == ({"name": "e", "deployedModels": [young]}, 0)
    assert without_young([young], horizon) == ([young], 0)


def test_the_service_injects_what_its_settings_say_and_nothing_else_turns_it_on(shared: Bench) -> None:
    service = replace(shared.service, settings=replace(shared.service.settings, faults=Faults(unavailable=1.0)), injected=Counter())
    client = TestClient(create_app(service), base_url="http://127.0.0.1")
    assert client.get(BUCKETS).status_code == 503
    assert service.injected == {"requests": 1, "unavailable": 1}
    assert FaultInjection not in [middleware.cls for middleware in shared.client.app.user_middleware]
    headers, query = {"X-Inject-Faults": '{"unavailable": 1}'}, {"inject-faults": '{"unavailable": 1}', "faults": "1"}
    assert {shared.client.get(BUCKETS, headers=headers, params=query).status_code for _ in range(50)} == {200}
    assert shared.service.injected == {}


def test_googles_clients_survive_what_they_may_try_again(faulty: Faulty, shared: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cloud Storage's client tries most calls again. Of Vertex AI's clients only the polling of operations does."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform, storage

    poll_quickly(monkeypatch)
    operation = shared.client.post(f"{PLACE}/endpoints", json={"displayName": "e"}).json()["name"]
    with faulty(seed=1, unavailable=0.05, reset=0.05) as (url, injected):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
        bucket = storage.Client(project="proj", credentials=AnonymousCredentials()).create_bucket("survivor")
        for number in range(20):
            bucket.blob(f"o{number}").upload_from_string(str(number), if_generation_match=0)
        assert {blob.name: blob.download_as_text() for blob in bucket.list_blobs()} == {f"o{number}": str(number) for number in range(20)}
        assert injected.keys() == {"requests", "unavailable", "reset"}
    with faulty(seed=1, unavailable=0.05) as (url, injected):
        options = {"client_options": {"api_endpoint": url}, "credentials": AnonymousCredentials(), "transport": "rest"}
        operations: Any = aiplatform.gapic.EndpointServiceClient(**options).transport.operations_client
        assert all(operations.get_operation(operation).done for _ in range(40))
        assert injected.keys() == {"requests", "unavailable"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0.05", "expected a JSON object such as"),
        ("{", "expected a JSON object such as"),
        ('{"unavailble": 0.1}', "unknown name 'unavailble'. Did you mean 'unavailable'?"),
        ('{"unavailable": "5%"}', "unavailable: found '5%'; expected a number."),
        ('{"reset": true}', "reset: found True; expected a number."),
        ('{"reset": 1.5}', "reset: found 1.5; expected a share from 0 to 1."),
        ('{"reset": 0.6, "lost_response": 0.6}', "found shares that make more than 1"),
        ('{"delay_seconds": -1}', "delay_seconds: expected at least 0."),
        ('{"slow": NaN}', "slow: found nan"),
    ],
)
def test_wrong_faults_are_refused(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        serve.main(["--inject-faults", text])


def test_faults_are_for_one_machine_and_no_option_that_one_finds(tmp_path: Path) -> None:
    assert "inject-faults" not in serve.parser().format_help()
    with pytest.raises(UsageError, match="found faults with the host"):
        Settings(home=tmp_path, runs_dir=tmp_path, host="0.0.0.0", faults=Faults())  # noqa: S104


def bucket_names(shared: Bench) -> list[str]:
    return sorted(path.name for path in shared.service.settings.buckets.iterdir())
