"""The predictor container under the Vertex contract: only AIP_* variables, no network, and the answers of the local endpoint."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from docker.models.containers import Container

from tests.containers.conftest import Images
from tests.containers.reference import ENVIRONMENT, WITHOUT_GPU
from tests.containers.sandbox import Sandbox, ask
from tests.containers.stock_kfp import KfpRun
from tuneline.registry.client import request

MOUNT, PORT = "/model", 8080
VERTEX = {
    "AIP_HTTP_PORT": str(PORT),
    "AIP_HEALTH_ROUTE": "/v1/endpoints/1/deployedModels/2",
    "AIP_PREDICT_ROUTE": "/v1/endpoints/1/deployedModels/2:predict",
    "AIP_STORAGE_URI": MOUNT,
}
DEADLINE_SECONDS = 120
GRACE_SECONDS = 30
"""What Kubernetes gives when nothing else is asked for."""
CHANGING = {"id", "created"}
PROMPT = "Write the function `area` of module `shapes`.\n\ndef area(width, height)\n\nReturn the area of a rectangle."
MESSAGES = [{"role": "user", "content": PROMPT}]
REQUESTS: dict[str, tuple[str, dict[str, object]]] = {
    "code": ("predict", {"instances": [{"prefix": PROMPT}], "parameters": {"temperature": 0, "maxOutputTokens": 12}}),
    "several instances": (
        "predict",
        {"instances": [{"prefix": PROMPT}, {"content": "Write the function `tk_popup`."}, {"prefix": "def f"}], "parameters": {"maxOutputTokens": 6}},
    ),
    "chat": ("predict", {"instances": [{"messages": [{"author": "user", "content": PROMPT}]}], "parameters": {"maxOutputTokens": 8}}),
    "raw prompt": ("predict", {"instances": [{"prompt": PROMPT, "raw_response": True, "max_tokens": 8, "temperature": 0}]}),
    "chat completions in a predict request": (
        "predict",
        {"instances": [{"@requestFormat": "chatCompletions", "messages": MESSAGES, "max_tokens": 8, "temperature": 0}]},
    ),
    "OpenAI": ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 8, "temperature": 0}),
}
ASK = """
import sys, urllib.error, urllib.request
body = sys.argv[2].encode() if len(sys.argv) > 2 else None
try:
    answer = urllib.request.urlopen(urllib.request.Request(sys.argv[1], body, {"Content-Type": "application/json"}), timeout=60)
except urllib.error.HTTPError as error:
    answer = error
print(answer.status, answer.read().decode())
"""


def post(container: Container, route: str, body: Mapping[str, object] | None = None) -> tuple[int, dict[str, Any]]:
    """Ask from inside the container, which has no other network."""
    more = [] if body is None else [json.dumps(body)]
    code, output = ask(container, "python", "-c", ASK, f"http://127.0.0.1:{PORT}{route}", *more)
    assert code == 0, output
    status, _, answer = output.partition(" ")
    return int(status), json.loads(answer)


def check_health(container: Container) -> int:
    """Run the image's own HEALTHCHECK; its exit code. Not every engine runs it by itself."""
    kind, *command = container.attrs["Config"]["Healthcheck"]["Test"]
    return ask(container, *(command if kind == "CMD" else ["/bin/sh", "-c", *command]))[0]


@contextlib.contextmanager
def predictor(images: Images, sandbox: Sandbox, model: Path) -> Iterator[Container]:
    """The container, at once."""
    with sandbox.started(images.predictor, environment=VERTEX | ENVIRONMENT, mounts={model: "ro"}, targets={model: MOUNT}) as container:
        yield container


def wait_until_healthy(container: Container) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while check_health(container) != 0:
        container.reload()
        assert container.status == "running", container.logs().decode()
        assert time.monotonic() < until, container.logs().decode()
        time.sleep(0.25)


@pytest.fixture(scope="module")
def model(kfp_run: Callable[[str], KfpRun]) -> Path:
    """The checkpoint that a run in containers selected."""
    return kfp_run("tune-large-model").outputs.model


@pytest.fixture(scope="module")
def container(images: Images, sandbox: Sandbox, model: Path) -> Iterator[Container]:
    """A predictor that is ready."""
    with predictor(images, sandbox, model) as container:
        wait_until_healthy(container)
        yield container


@pytest.fixture(scope="module")
def local_url(model: Path) -> Iterator[str]:
    """The local endpoint of the same model, ready."""
    command = [sys.executable, "-m", "tuneline.serving.server", "--model-path", str(model), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT, **WITHOUT_GPU})
    try:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "state=RUNNING" in line:
                break
        else:
            raise AssertionError("".join(lines))
        yield line.strip().rpartition(" url=")[2]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def without_changing(value: object) -> object:
    """An answer without what differs between two equal ones."""
    if isinstance(value, dict):
        return {key: without_changing(item) for key, item in value.items() if key not in CHANGING}
    return [without_changing(item) for item in value] if isinstance(value, list) else value


def test_it_is_healthy_on_the_route_that_vertex_names(container: Container) -> None:
    assert post(container, VERTEX["AIP_HEALTH_ROUTE"]) == (200, {"status": "SERVING"})


@pytest.mark.parametrize("name", REQUESTS)
def test_it_answers_as_the_local_endpoint_does(name: str, container: Container, local_url: str) -> None:
    route, body = REQUESTS[name]
    status, answer = post(container, VERTEX["AIP_PREDICT_ROUTE"] if route == "predict" else route, body)
    expected = request(local_url, "/predict" if route == "predict" else route, body, timeout_seconds=120)
    assert (status, without_changing(answer)) == (200, without_changing(expected[1]))
    answers = answer.get("predictions", answer)
    texts = answers["choices"] if isinstance(answers, dict) else answers
    assert len({json.dumps(text) for text in texts}) == len(body.get("instances", MESSAGES))


def test_a_bad_request_is_refused_as_at_the_local_endpoint(container: Container, local_url: str) -> None:
    body = {"instances": [{"nothing": 1}]}
    assert post(container, VERTEX["AIP_PREDICT_ROUTE"], body) == request(local_url, "/predict", body, timeout_seconds=30)
    assert post(container, VERTEX["AIP_PREDICT_ROUTE"], body)[0] == 400


def test_its_health_check_waits_for_the_model_and_sigterm_ends_it(images: Images, sandbox: Sandbox, model: Path) -> None:
    with predictor(images, sandbox, model) as container:
        assert check_health(container) != 0, "no model can have been loaded so soon"
        wait_until_healthy(container)
        began = time.monotonic()
        container.stop(timeout=GRACE_SECONDS)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0, container.logs().decode()
        assert time.monotonic() - began < GRACE_SECONDS, "it was killed"
        assert "stopped reason='told to stop'" in container.logs().decode()
