import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from tuneline.cli import main
from tuneline.errors import InfrastructureError
from tuneline.registry import endpoints, models
from tuneline.registry.client import request
from tuneline.registry.models import Registration, register
from tuneline.registry.processes import ProcessIdentity


@pytest.fixture
def model_name(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A registered model. Whatever it is served by ends with the test."""
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    checkpoint = tmp_path / "checkpoint"
    shutil.copytree(model_folder, checkpoint)
    files = {path.name: {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size} for path in checkpoint.iterdir()}
    (checkpoint / "COMMIT.json").write_text(json.dumps({"step": 20, "files": files, "state": {}}))
    registration = Registration(project="acme", location="local", display_name="demo", pipeline_job_name="job-1", base_model="code-bison@002")
    yield register(checkpoint, registration).resource_name
    for endpoint in endpoints.list_endpoints():
        endpoints.undeploy(endpoint)


def test_an_endpoint_is_deployed_once_asked_and_undeployed_without_a_trace(model_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = asdict(endpoints.deployment_of(models.get(model_name)))
    with ThreadPoolExecutor(4) as pool:
        started = list(pool.map(lambda _: endpoints.start(record), range(4)))
    assert len({endpoint.to_json()["pid"] for endpoint in started}) == 1
    [endpoint] = endpoints.list_endpoints()
    assert endpoint.state == "RUNNING"
    assert endpoint.report is not None
    process = endpoint.report.process
    assert os.getsid(process.pid) == process.pid  # no terminal and no task can take it along

    capsys.readouterr()
    assert main(["predict", "demo", "--prompt", "def f(", "--max-tokens", "4", "--json"]) == 0
    response = json.loads(capsys.readouterr().out)
    assert response["model"] == model_name
    assert response["predictions"][0]["candidates"][0]["content"]

    assert main(["endpoints", "undeploy", "demo"]) == 0
    assert not process.is_alive()
    assert ProcessIdentity.of(process.pid) != process
    with pytest.raises(InfrastructureError):
        request(endpoint.url, "/health", timeout_seconds=5)
    assert (endpoints.find("demo").state, endpoints.find("demo").reason) == ("STOPPED", "told to stop")
    assert main(["predict", "demo", "--prompt", "x"]) == 1
    assert f"tuneline endpoints deploy {model_name}" in capsys.readouterr().err


def test_an_endpoint_that_nobody_asks_ends_by_itself(model_name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["endpoints", "deploy", "demo", "--idle-timeout", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == model_name
    report = endpoints.find("demo").report
    assert report is not None
    assert report.process.has_ended_within(60)
    [endpoint] = endpoints.list_endpoints()
    assert (endpoint.state, endpoint.reason) == ("STOPPED", "idle for 1 s")
