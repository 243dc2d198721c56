"""The server as a process in a container: what it is told by its environment, and how it ends."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.modeling.tiny_model import byte_tokenizer, write_base
from tests.serving.adapter_folders import write_adapter
from tests.serving.conftest import HERE, WITH_VLLM, serving, wait_for
from tuneline.registry.client import request

DEADLY = "~"
DEADLY_TOKEN = str(byte_tokenizer().encode(DEADLY).ids[0])
WITHOUT_GPU = [str(HERE / "server_that_fails.py"), DEADLY_TOKEN]


def vertex(model_folder: Path) -> dict[str, str]:
    """What Vertex sets, with the routes that it takes when none is asked for."""
    place = "/v1/endpoints/77/deployedModels/88"
    return {
        "AIP_HTTP_PORT": "0", "AIP_HEALTH_ROUTE": place, "AIP_PREDICT_ROUTE": f"{place}:predict", "AIP_STORAGE_URI": str(model_folder),
        "AIP_ENDPOINT_ID": "77", "AIP_DEPLOYED_MODEL_ID": "88", "AIP_MODEL_NAME": "77", "AIP_VERSION_NAME": "88", "AIP_MODE": "PREDICTION",
        "AIP_MODE_VERSION": "1.0.0", "AIP_FRAMEWORK": "CUSTOM_CONTAINER", "AIP_PROJECT_NUMBER": "1",
    }  # fmt: skip


def test_what_vertex_gives_a_container_is_honoured_and_a_term_signal_ends_it_cleanly(model_folder: Path, tmp_path: Path) -> None:
    body = {"instances": [{"content": "a"}], "parameters": {"maxOutputTokens": 2}}
    environment = vertex(model_folder)
    with serving(**environment, TUNELINE_HOME=str(tmp_path / "home")) as (process, url):
        assert request(url, environment["AIP_HEALTH_ROUTE"], timeout_seconds=60)[0] in (200, 503)
        assert request(url, environment["AIP_PREDICT_ROUTE"], body, timeout_seconds=60)[0] in (200, 503)
        wait_for(process, "state=RUNNING")
        assert request(url, environment["AIP_HEALTH_ROUTE"], timeout_seconds=60)[0] == 200
        status, response = request(url, environment["AIP_PREDICT_ROUTE"], body, timeout_seconds=60)
        assert (status, response["deployedModelId"]) == (200, "88")
        assert request(url, "/v1/projects/1/locations/here/endpoints/77:predict", body, timeout_seconds=60)[0] == 200
        assert not (tmp_path / "home" / "endpoints").exists()  # no endpoint of this machine
        memory = next(line for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
        assert int(memory.split()[1]) < 1_000_000
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize("program", [WITHOUT_GPU, WITH_VLLM], ids=["transformers", "vllm"])
def test_a_user_without_a_home_and_an_adapter_in_the_artifacts(program: list[str], tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    adapter = write_adapter(tmp_path / "adapter", base)
    (adapter / "adapter_config.json").write_text((adapter / "adapter_config.json").read_text().replace(str(base), "someone/else"))
    environment = {"AIP_STORAGE_URI": str(adapter), "AIP_HTTP_PORT": "0", "BASE_MODEL_ID": str(base), "AIP_PREDICT_ROUTE": "answer", "AIP_HEALTH_ROUTE": "up"}
    home = {"HOME": "/nonexistent", "TUNELINE_HOME": str(tmp_path / "home")}
    with serving(program=program, **environment, **home) as (process, url):
        assert "adapter=True" in wait_for(process, "adapter=")
        wait_for(process, "state=RUNNING")
        assert request(url, "/up", timeout_seconds=60)[0] == 200
        assert request(url, "/answer", {"instances": [{"content": "a"}]}, timeout_seconds=60)[0] == 200


@pytest.mark.parametrize("program", [WITHOUT_GPU, WITH_VLLM], ids=["transformers", "vllm"])
def test_an_engine_that_dies_ends_the_server_once_its_clients_know(program: list[str], model_folder: Path, tmp_path: Path) -> None:
    environment = {"TUNELINE_HOME": str(tmp_path), "FAKE_VLLM_DEADLY_TOKEN": DEADLY_TOKEN}
    with serving("--model-path", str(model_folder), "--port", "0", "--endpoint-id", "77", program=program, **environment) as (process, url):
        wait_for(process, "state=RUNNING")
        asked = {"instances": [{"content": "a"}], "parameters": {"maxOutputTokens": 1}}
        assert request(url, "/predict", asked, timeout_seconds=60)[0] == 200
        status, response = request(url, "/predict", asked | {"instances": [{"content": "a"}, {"content": DEADLY}]}, timeout_seconds=60)
        assert (status, response["error"]["status"]) == (503, "UNAVAILABLE")
        assert process.wait(60) == 13
    report = json.loads((tmp_path / "endpoints" / "77" / "server.json").read_text())
    assert (report["state"], report["reason"].split(";")[0]) == ("STOPPED", "a generation step failed")


def test_a_term_signal_ends_it_while_the_model_is_being_loaded(tmp_path: Path) -> None:
    model = write_base(tmp_path / "model")
    os.mkfifo(model / "COMMIT.json")  # nobody writes to it: the loader waits
    with serving("--model-path", str(model), "--port", "0") as (process, url):
        assert request(url, "/health", timeout_seconds=60)[0] == 503
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_model_that_is_damaged_is_not_served(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((model_folder / "config.json").read_bytes())
    (tmp_path / "COMMIT.json").write_text('{"step": 1, "files": {"config.json": {"sha256": "0", "bytes": 1}}, "state": {}}')
    with serving("--model-path", str(tmp_path), "--port", "0") as (process, _):
        assert "config.json" in wait_for(process, "ERROR")
        assert process.wait(60) == 1


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "--model-path is missing, and AIP_STORAGE_URI is not set"),
        ({"AIP_STORAGE_URI": ""}, "AIP_STORAGE_URI is empty: the model was uploaded without artifact_uri"),
        ({"AIP_STORAGE_URI": "/m", "AIP_HTTP_PORT": "http"}, "AIP_HTTP_PORT: found 'http'; expected a number from 0 to 65535"),
    ],
)
def test_a_server_that_is_told_nonsense_says_what_is_wrong(environment: Mapping[str, str], message: str) -> None:
    with pytest.raises(AssertionError, match=message), serving(**environment) as (process, _):
        assert process.wait(60) == 2
