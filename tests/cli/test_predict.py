import io
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from tests.registry.made_up import registered
from tuneline.cli import main
from tuneline.registry import endpoints
from tuneline.registry.endpoints import Deployment, ServerReport, State, deployment_of
from tuneline.registry.files import write_json
from tuneline.registry.processes import ProcessIdentity


class FakeServer(BaseHTTPRequestHandler):
    """Answers every chat with its last message in capitals, and notes what it was asked."""

    asked: ClassVar[list[dict[str, object]]] = []
    status = 200

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        answer = {"predictions": [{"candidates": [{"author": "bot", "content": body["instances"][0]["messages"][-1]["content"].upper()}]}]}
        content = json.dumps(answer if self.status == 200 else {"error": {"code": self.status, "message": "instances[0]: too long"}}).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """No log."""


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), FakeServer)
    FakeServer.asked.clear()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: HTTPServer) -> Deployment:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # would lead nowhere
    deployment = deployment_of(registered(tmp_path))
    write_json(tmp_path / "home" / "endpoints" / deployment.endpoint_id / "deployment.json", vars(deployment))
    say(deployment, server, "RUNNING")
    return deployment


def say(deployment: Deployment, server: HTTPServer, state: State, reason: str = "") -> None:
    process = ProcessIdentity.of(os.getpid())
    assert process is not None
    report = ServerReport(state=state, process=process, url=f"http://127.0.0.1:{server.server_port}", start_time="2026", reason=reason)
    endpoints.report_server(deployment.endpoint_id, report)


def test_the_answer_is_printed_and_nothing_else(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("latest", "My model", deployment.endpoint_id, deployment.endpoint_resource_name):
        assert main(["predict", name, "--prompt", "hello"]) == 0
        assert capsys.readouterr().out == "HELLO\n"


def test_the_flags_reach_the_server(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "latest", "--prompt", "a", "--context", "Be brief.", "--max-tokens", "7", "--temperature", "0.5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"]
    instance = {"messages": [{"author": "user", "content": "a"}], "context": "Be brief."}
    assert FakeServer.asked == [{"instances": [instance], "parameters": {"temperature": 0.5, "max_tokens": 7}}]


def test_the_prompt_may_come_from_standard_input(deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("two\nlines"))
    assert main(["predict", "latest", "--prompt", "-"]) == 0
    assert capsys.readouterr().out == "TWO\nLINES\n"


def test_a_stopped_endpoint_says_why_and_how_to_start_it(deployment: Deployment, server: HTTPServer, capsys: pytest.CaptureFixture[str]) -> None:
    say(deployment, server, "STOPPED", "idle for 1800 s")
    assert main(["predict", "latest", "--prompt", "a"]) == 1
    error = capsys.readouterr().err
    assert "is stopped (idle for 1800 s)" in error
    assert f"tuneline endpoints deploy {deployment.model_resource_name}" in error
    say(deployment, server, "STARTING")
    assert main(["predict", "latest", "--prompt", "a"]) == 1
    assert "is starting" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "code"), [(400, 1), (503, 13)])
def test_the_servers_refusal_is_passed_on(
    deployment: Deployment, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, status: int, code: int
) -> None:
    monkeypatch.setattr(FakeServer, "status", status)
    assert main(["predict", "latest", "--prompt", "a"]) == code
    assert "instances[0]: too long" in capsys.readouterr().err


def test_an_unknown_endpoint_is_the_users_error(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "another", "--prompt", "a"]) == 1
    assert "no endpoint 'another'" in capsys.readouterr().err
