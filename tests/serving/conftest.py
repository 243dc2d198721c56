import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.modeling.tiny_model import write_base
from tuneline.registry import client

HERE = Path(__file__).parent
SERVER = ["-m", "tuneline.serving.server"]
WITH_VLLM = [str(HERE / "fake_vllm" / "server_with_gpu.py")]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PATH": os.environ["PATH"]}


@contextlib.contextmanager
def serving(*flags: str, program: Sequence[str] = SERVER, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address, which it answers at once; ready or not."""
    process = subprocess.Popen([sys.executable, *program, *flags], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | environment)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " url=" in line, line + process.stderr.read()
        yield process, line.strip().rpartition(" url=")[2]
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def wait_for(process: "subprocess.Popen[str]", text: str) -> str:
    """Read the log up to the line that holds the text."""
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if text in line:
            return line
    raise AssertionError("".join(seen))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_base(tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="session", params=["transformers", "vllm"])
def engine_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def url(engine_name: str, model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that is ready, on each of the engines; vLLM's is a stand-in that runs without a GPU."""
    names = ["--display-name", "demo", "--endpoint-id", "77", "--model-resource-name", "projects/p/locations/local/models/5@1"]
    home = str(tmp_path_factory.mktemp("home"))
    program = WITH_VLLM if engine_name == "vllm" else SERVER
    with serving("--model-path", str(model_folder), "--port", "0", *names, program=program, TUNELINE_HOME=home) as (process, url):
        assert f"engine={engine_name}" in wait_for(process, "engine=")
        wait_for(process, "state=RUNNING")
        assert client.request(url, "/health", timeout_seconds=30) == (200, {"status": "SERVING"})
        yield url
