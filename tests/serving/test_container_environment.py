"""What the environment and the limits of a container come to."""

import http.server
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuneline.errors import UsageError
from tuneline.serving import container, health
from tuneline.serving.server_options import read_options
from tuneline.serving.vertex_environment import VertexEnvironment


@pytest.mark.parametrize("nothing", [{}, {"AIP_HTTP_PORT": "", "AIP_HEALTH_ROUTE": "", "AIP_PREDICT_ROUTE": " / "}])
def test_what_vertex_does_not_say_has_a_default(nothing: dict[str, str]) -> None:
    vertex = VertexEnvironment.read(nothing)
    assert (vertex.http_port, vertex.health_route, vertex.predict_route, vertex.storage_uri) == (8080, "/health", "/predict", None)


@pytest.mark.parametrize("given", ["alive", "/alive", " /alive"])
def test_a_route_has_one_leading_slash(given: str) -> None:
    assert VertexEnvironment.read({"AIP_HEALTH_ROUTE": given}).health_route == "/alive"
    assert read_options(["--model-path", "m", "--health-route", given], {}).health_route == "/alive"


@pytest.mark.parametrize("port", ["http", "-1", "65536", "80 80", "1.5"])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(UsageError, match="AIP_HTTP_PORT: found"):
        VertexEnvironment.read({"AIP_HTTP_PORT": port})


def test_flags_go_before_the_environment() -> None:
    environment = {"AIP_STORAGE_URI": "gs://b/m", "AIP_HTTP_PORT": "81", "BASE_MODEL_ID": "a/b", "OMP_NUM_THREADS": "3", "AIP_ENDPOINT_ID": "7"}
    options = read_options([], environment)
    assert (options.model_path, options.port, options.base_model, options.threads) == ("gs://b/m", 81, "a/b", 3)
    assert (options.endpoint_id, options.vertex.endpoint_id) == ("", "7")  # an endpoint on Vertex is none of this machine
    options = read_options(["--model-path", "m", "--port", "82", "--base-model", "c", "--threads", "2"], environment)
    assert (options.model_path, options.port, options.base_model, options.threads) == ("m", 82, "c", 2)
    assert read_options(["--model-path", "m"], {"AIP_STORAGE_URI": ""}).model_path == "m"


@pytest.mark.parametrize(
    ("content", "cores"), [("max 100000", None), ("200000 100000", 2), ("250000 100000", 2), ("50000 100000", 1), ("nonsense", None), ("", None)]
)
def test_a_quota_of_cgroups_2_is_cores(content: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(f"{content}\n")
    assert container.quota(tmp_path / "cpu.max") == cores


@pytest.mark.parametrize(("limit", "cores"), [("-1", None), ("300000", 3)])
def test_a_quota_of_cgroups_1_is_cores(limit: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(limit)
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert container.quota(tmp_path / "cpu.cfs_quota_us") == cores
    assert container.quota(tmp_path / "missing") is None


def test_threads_are_the_cores_that_the_process_may_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(container, "CPU_QUOTAS", (tmp_path / "cpu.max",))
    assert read_options(["--model-path", "m"], {}).threads == 3
    (tmp_path / "cpu.max").write_text("200000 100000")
    assert read_options(["--model-path", "m"], {}).threads == 2


def test_a_home_that_cannot_be_written_to_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "t"))
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    container.settle()
    assert (os.environ["HOME"], os.environ["OMP_WAIT_POLICY"]) == (str(tmp_path / "t"), "ACTIVE")
    assert (tmp_path / "t").is_dir()


def test_a_home_that_can_be_written_to_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TUNELINE_HOME", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    container.settle()
    assert os.environ["HOME"] == str(tmp_path)
    assert "TUNELINE_HOME" not in os.environ
    assert os.environ.pop("OMP_WAIT_POLICY") == "PASSIVE"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/up" else 503)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()


def test_the_health_check_says_whether_the_route_answers_200(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert health.main({"AIP_HTTP_PORT": port, "AIP_HEALTH_ROUTE": "up"}) == 0
    assert capsys.readouterr().err == ""
    assert health.main({"AIP_HTTP_PORT": port}) == 1
    assert capsys.readouterr().err == f"http://127.0.0.1:{port}/health: found status 503; expected 200.\n"
    assert health.main({"AIP_HTTP_PORT": "nothing"}) == 1
    assert "AIP_HTTP_PORT: found 'nothing'" in capsys.readouterr().err


def test_the_health_check_gives_up_on_who_does_not_answer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(health, "TIMEOUT_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert health.main({"AIP_HTTP_PORT": str(silent.getsockname()[1])}) == 1
    assert "no answer (timed out)" in capsys.readouterr().err


def test_the_health_check_is_a_command_that_loads_little(port: str) -> None:
    environment = {"AIP_HTTP_PORT": port, "AIP_HEALTH_ROUTE": "/up", "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-m", "tuneline.serving.health"], env=environment, check=False).returncode == 0
    code = "import sys, tuneline.serving.health as _; print(*{m.split('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    shown = subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True, check=True).stdout
    assert "tuneline" in shown
    assert not {"torch", "numpy", "fastapi", "safetensors", "tokenizers"} & set(shown.split())
