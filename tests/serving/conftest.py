import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modeling.tiny_model import write_base
from tuneline.registry.client import request

SERVER = [sys.executable, "-m", "tuneline.serving.server"]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PATH": os.environ["PATH"]}


@contextlib.contextmanager
def serving(*flags: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server process and its address, which it answers at once; ready or not."""
    process = subprocess.Popen([*SERVER, *flags], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT | environment)
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


@pytest.fixture(scope="session")
def url(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that is ready."""
    names = ["--display-name", "demo", "--endpoint-id", "77", "--model-resource-name", "projects/p/locations/local/models/5@1"]
    home = str(tmp_path_factory.mktemp("home"))
    with serving("--model-path", str(model_folder), "--port", "0", *names, TUNELINE_HOME=home) as (process, url):
        wait_for(process, "state=RUNNING")
        assert request(url, "/health", timeout_seconds=30) == (200, {"status": "SERVING"})
        yield url
