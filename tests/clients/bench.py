"""A real `tuneline serve` on a free port, and the snippets of the page run against it, each as a process of its own."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.clients.page import PORT, ROOT, snippets

PARENT = "projects/my-project/locations/us-central1"
TOKEN = "local"
HERE = Path(__file__).parent
NODE_FOLDER = HERE / "node"
PYTHONS = {"1.165.1": Path(sys.executable), "2.7.0": ROOT / ".venv-aiplatform-2" / "bin" / "python"}
"""Version of google-cloud-aiplatform -> the interpreter that has it."""
TUNELINE = Path(sys.executable).with_name("tuneline")
TIMEOUT_SECONDS = 540
_ENDED = re.compile(r"(JOB|PIPELINE)_STATE_(SUCCEEDED|FAILED|CANCELLED)")


def require(found: object, what: str) -> None:
    """Skip the test without this client, or fail where all clients must be there."""
    if not found:
        reason = f"{what} is not there; `make test` sets it up."
        if os.environ.get("TUNELINE_REQUIRE_CLIENTS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a process ended."""

    code: int
    out: str
    err: str

    def lines(self, pattern: str) -> list[str]:
        """The lines that match the whole pattern."""
        return [line for line in self.out.splitlines() if re.fullmatch(pattern, line)]


@dataclass(frozen=True, kw_only=True)
class Server:
    """The service, as clients find it."""

    url: str
    folder: Path
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    """What has been run from the page: a heading and a version."""

    @property
    def bucket(self) -> Path:
        """What `gs://my-bucket` means."""
        return self.folder / "home" / "service" / "buckets" / "my-bucket"

    def ask(self, path: str, method: str = "GET", **given: Any) -> dict[str, Any]:
        """The JSON that answers a request."""
        answer = httpx.request(method, f"{self.url}{path}", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60, trust_env=False, **given)
        body: dict[str, Any] = answer.raise_for_status().json()
        return body

    def cancelled(self, name: str) -> dict[str, Any]:
        """A job, once it has been cancelled and has ended."""
        self.ask(f"/v1/{name}:cancel", "POST")
        wait_for(lambda: _ENDED.fullmatch(self.ask(f"/v1/{name}")["state"]))
        return self.ask(f"/v1/{name}")

    def adjusted(self, text: str) -> str:
        """A snippet for the port of this service."""
        return text.replace(PORT, self.url.rpartition(":")[2])

    def run(self, *command: str | Path, text: str = "", folder: Path = ROOT) -> Outcome:
        """A client's process, whose requests to this machine go past any proxy."""
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        environment.pop("PYTHONPATH", None)  # it is not meant for the clients' interpreters
        done = subprocess.run(command, cwd=folder, env=environment, input=text, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
        return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)

    def sh(self, script: str, folder: Path = ROOT) -> Outcome:
        """A script for the shell, with short pauses."""
        require(shutil.which("curl"), "curl")
        return self.run("bash", "-eu", text=f"sleep() {{ command sleep 0.3; }}\n{self.adjusted(script)}", folder=folder)

    def page_sh(self, heading: str) -> Outcome:
        """The shell's snippets under a heading, once."""
        return self._once(heading, "sh", lambda: self.sh("".join(snippets(heading, "sh"))))

    def page_python(self, heading: str, version: str, init: str = "google-cloud-aiplatform") -> Outcome:
        """Python's snippets under a heading after the lines that say where the service is, once for each version of google-cloud-aiplatform."""
        require(PYTHONS[version].exists(), f"google-cloud-aiplatform {version}")

        def run() -> Outcome:
            file = self.folder / f"{heading} {version}.py"
            blocks = snippets(heading, "python") if heading == init else [*snippets(init, "python"), *snippets(heading, "python")]
            # No job writes where another one has left its checkpoints.
            file.write_text(self.adjusted("\n".join(blocks)).replace("open-model", f"open-model-{version}"), encoding="utf-8")
            return self.run(PYTHONS[version], "-W", "ignore", HERE / "hurry.py", file)

        return self._once(heading, version, run)

    def page_node(self, heading: str) -> Outcome:
        """JavaScript's snippets under a heading, once."""
        require(shutil.which("node"), "node")
        require((NODE_FOLDER / "node_modules").exists(), "@google-cloud/aiplatform for Node.js")
        script = self.adjusted("".join(snippets(heading, "js")))
        return self._once(heading, "node", lambda: self.run("node", "--input-type=module", text=script, folder=NODE_FOLDER))

    def _once(self, heading: str, version: str, run: Callable[[], Outcome]) -> Outcome:
        if (heading, version) not in self.outcomes:
            self.outcomes[heading, version] = run()
            self.undeploy()
        return self.outcomes[heading, version]

    def undeploy(self) -> None:
        """End the models' servers that a snippet has left: each has some hundred megabytes."""
        subprocess.run([TUNELINE, "endpoints", "undeploy", "--all"], env=_environment(self.folder), check=True, capture_output=True)


def wait_for(look: Callable[[], object], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """The service as the page starts it, with the page's files; at the end everything that it has started is ended."""
    (folder / "home" / "service").mkdir(parents=True)
    (folder / "home" / "service" / "token").write_text(TOKEN, encoding="utf-8")
    [overlay] = snippets("The service", "toml")
    (folder / "catalog.toml").write_text(overlay, encoding="utf-8")
    command, files = snippets("The service", "sh")
    assert shlex.split(command)[0] == TUNELINE.name
    log = folder / "service.log"
    with log.open("wb") as stream:
        words = [TUNELINE, *shlex.split(command)[1:], "--port", "0", "--token"]
        process = subprocess.Popen(words, cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, stderr=stream)
    try:
        wait_for(lambda: _address(log) or process.poll() is not None)
        assert process.poll() is None, log.read_text(encoding="utf-8")
        server = Server(url=_address(log), folder=folder)
        try:
            loaded = server.sh(files)
            assert loaded.code == 0, loaded.err
            yield server
        finally:
            for job in server.ask(f"/v1/{PARENT}/pipelineJobs").get("pipelineJobs", []):
                server.cancelled(job["name"])
            server.undeploy()
    finally:
        process.terminate()
        process.wait(30)


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TUNELINE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}


def _address(log: Path) -> str:
    found = re.search(r"running on (http://[\d.:]+)", log.read_text(encoding="utf-8"))
    return found[1] if found else ""
