"""The audit, with the real pip-audit against an advisory service of this machine that speaks OSV's protocol."""

import json
import threading
from collections.abc import Iterator, Mapping
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from images import audit
from images.roles import LOCKS

OURS = {"images/one.txt": [("click", "8.5.1"), ("torch", "2.13.0")], "images/two.txt": [("click", "8.4.0")]}
KNOWN = {audit.CANARY: ["CVE-2014-1402"]}
CLICK = {**KNOWN, ("click", "8.4.0"): ["GHSA-zzzz", "CVE-2026-9"]}


class Service:
    """Answers with the advisories of a package and version."""

    def __init__(self, advisories: Mapping[tuple[str, str], list[str]], status: int = 200) -> None:
        self.asked: set[tuple[str, str]] = set()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                pin = (query["package"]["name"], query["version"])
                service.asked.add(pin)
                body = json.dumps(answer(pin, advisories.get(pin))).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/v1/query"


def answer(pin: tuple[str, str], identifiers: list[str] | None) -> dict[str, object]:
    if not identifiers:
        return {}
    ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99"}]}]
    affected = [{"package": {"name": pin[0], "ecosystem": "PyPI"}, "ranges": ranges}]
    return {"vulns": [{"id": identifiers[0], "aliases": identifiers[1:], "summary": "bad", "affected": affected}]}


@pytest.fixture(autouse=True)
def few_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(audit, "pins_by_lock", lambda: OURS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def start() -> Iterator[type[Service]]:
    running = []

    class Started(Service):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            running.append(self.server)

    yield Started
    for server in running:
        server.shutdown()
        server.server_close()


def allowing(tmp_path: Path, days: int) -> str:
    file = tmp_path / "allowed.toml"
    expires = audit.today() + timedelta(days=days)
    file.write_text(f'[[allowed]]\nid = "CVE-2026-9"\npackage = "click"\nreason = "not used"\nexpires = {expires}\n', encoding="utf-8")
    return str(file)


def test_all_is_well_when_every_package_was_looked_up(start: type[Service], capsys: pytest.CaptureFixture[str]) -> None:
    service = start(KNOWN)
    assert audit.main(["--osv-url", service.url]) == 0
    assert service.asked == {*OURS["images/one.txt"], *OURS["images/two.txt"], audit.CANARY}
    assert "3 packages of 2 locks: 0 refused, 0 allowed, 0 not audited." in capsys.readouterr().out


def test_a_finding_fails_and_says_where(start: type[Service], capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start(CLICK).url]) == 1
    output = capsys.readouterr().out
    assert "REFUSED  click 8.4.0: CVE-2026-9, GHSA-zzzz; fixed in 99. In images/two.txt." in output
    assert "1 refused" in output


def test_an_allowed_finding_passes(start: type[Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start(CLICK).url, "--allowed", allowing(tmp_path, days=0)]) == 0
    assert "0 refused, 1 allowed" in capsys.readouterr().out


def test_an_expired_allowance_fails(start: type[Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start(CLICK).url, "--allowed", allowing(tmp_path, days=-1)]) == 1
    assert "expired" in capsys.readouterr().out


def test_an_unused_allowance_is_only_reported(start: type[Service], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start(KNOWN).url, "--allowed", allowing(tmp_path, days=1)]) == 0
    assert "unused   CVE-2026-9 of click" in capsys.readouterr().out


@pytest.mark.parametrize("status", [404, 500])
def test_a_service_that_fails_is_no_good_news(start: type[Service], status: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start(KNOWN, status).url]) == 13
    assert "Nothing was audited" in capsys.readouterr().err


def test_a_service_that_cannot_be_reached_is_no_good_news(start: type[Service], capsys: pytest.CaptureFixture[str]) -> None:
    service = start(KNOWN)
    service.server.shutdown()
    service.server.server_close()
    assert audit.main(["--osv-url", service.url]) == 13
    captured = capsys.readouterr()
    assert "Nothing was audited" in captured.err
    assert "0 refused" not in captured.out


def test_a_service_that_knows_nothing_is_no_good_news(start: type[Service], capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.main(["--osv-url", start({}).url]) == 13
    assert "known to be vulnerable" in capsys.readouterr().err


def test_packages_that_the_service_does_not_know_are_not_clean(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "Dependency not found on PyPI and could not be audited: torch (2.13.0)"
    monkeypatch.setattr(
        audit, "ask", lambda *_: audit.Answers(findings=(audit.Finding(package="jinja2", version="2.4.1", identifiers=("x",)),), skipped={"torch": reason})
    )
    assert audit.main([]) == 13
    assert f"UNKNOWN  torch: not audited. {reason}" in capsys.readouterr().out


def test_a_name_stands_once_in_a_batch() -> None:
    pins = [("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")]
    assert list(audit.batches(pins)) == [[("a", "1"), ("b", "1")], [("a", "2")], [("a", "3")]]


def test_every_lock_is_audited_and_torch_without_cuda_as_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pins = audit.pins_by_lock()
    assert len(pins) == len(LOCKS)
    assert ("torch", "2.13.0") in pins["images/tuner-gpu/requirements-cpu.txt"]
    assert not any("+" in version for lock in pins.values() for _, version in lock)
