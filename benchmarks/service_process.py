"""`tuneline serve` as a process of its own, asked over HTTP, and the small pipelines that the measurements of the service run in it."""

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.local.fake_pipelines import Fake, From, pipeline
from tuneline.api.jobs import OUTCOME, PROCESS
from tuneline.registry.files import read_json
from tuneline.registry.processes import ProcessIdentity

ROOT = Path(__file__).parents[1]
PLACE = "projects/proj/locations/us-central1"
MODEL = "tuneline/tiny-code@001"
START_SECONDS = 60.0
TIMEOUT_SECONDS = 60.0
_MARK = """
def mark(what):
    descriptor = os.open(given["ledger"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(descriptor, f"{what} {time.time()}\\n".encode())
"""
_WORK = """
mark("begin work")
end = time.monotonic() + float(given["seconds"])
while time.monotonic() < end: time.sleep(0.01)
mark("end work")
sys.exit(int(given["exit_code"]))
"""
_REGISTER = """
import hashlib
from tuneline.registry.models import Registration, register
from tuneline.steps import labelled_by_run
mark("begin register")
folder = pathlib.Path("checkpoint")
folder.mkdir()
weights = given["name"].encode()
(folder / "model.safetensors").write_bytes(weights)
files = {"model.safetensors": {"sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}}
(folder / "COMMIT.json").write_text(json.dumps({"step": 1, "files": files, "state": {}}))
names = {"project": "proj", "location": "us-central1", "display_name": given["name"], "pipeline_job_name": given["name"]}
register(folder, Registration(**names, resource=labelled_by_run()))
mark("end register")
"""


class Unanswered(Exception):
    """The service was not there, or went away before it had answered."""


class ServiceProcess:
    """The service over a folder, at a port that stays its own from start to start."""

    def __init__(self, home: Path, *flags: str) -> None:
        self.home, self.log = home, home / "serve.log"
        self.runs, self.jobs = home / "runs", home / "service" / "jobs"
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
        home.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Start it, and do not wait."""
        command = [sys.executable, "-m", "tuneline.cli", "serve", "--port", str(self.port), *self._flags]
        paths = [str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        environment = {**os.environ, **threads, "TUNELINE_HOME": str(self.home), "PYTHONPATH": os.pathsep.join(paths)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def wait(self) -> None:
        """Wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.call("GET", "/health")
            except Unanswered:
                code = self._process.poll() if self._process is not None else None
                if time.monotonic() > deadline or code is not None:
                    raise RuntimeError(f"the service does not start (exit code {code}):\n{self.log.read_text()[-2000:]}") from None
                time.sleep(0.02)
            else:
                return

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal, and wait for the end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait()
            self._process = None

    def processes(self) -> dict[str, ProcessIdentity]:
        """The living processes of jobs, by run."""
        found = {file.parent.name: ProcessIdentity(**(read_json(file) or {})) for file in self.jobs.glob(f"*/{PROCESS}")}
        return {run: process for run, process in found.items() if process.is_alive()}

    def end_jobs(self) -> None:
        """End the jobs' processes, which outlive the service. One that was only just started says first who it is."""
        deadline = time.monotonic() + START_SECONDS
        for folder in self.jobs.glob("*/"):
            while not (folder / OUTCOME).exists() and not (folder / PROCESS).exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        for process in self.processes().values():
            process.stop(grace_seconds=5)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of the answer."""
        status, content = self.connect().call(method, path, body)
        return status, json.loads(content)

    def connect(self) -> "Connection":
        """A connection that can be used again and again."""
        return Connection(self.port)

    def listed(self, kind: str, **query: Any) -> list[dict[str, Any]]:
        """All resources of a kind, page by page."""
        found: list[dict[str, Any]] = []
        token = ""
        while True:
            status, answer = self.call("GET", f"/v1/{PLACE}/{kind}?{urlencode({**query, 'pageToken': token})}")
            assert status == 200, answer
            found += answer[kind]
            token = answer.get("nextPageToken", "")
            if not token:
                return found

    def stored(self, text: str) -> list[tuple[Any, ...]]:
        """What a query finds in the service's own memory."""
        file = self.home / "service" / "service.db"
        connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(text).fetchall()
        finally:
            connection.close()


class Connection:
    """One client's connection."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)

    def call(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        """Status and content of the answer."""
        content = None if body is None else json.dumps(body)
        try:
            self._connection.request(method, path, body=content, headers={"Content-Type": "application/json"} if content else {})
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unanswered(f"{method} {path}: {error!r}") from error


def tiny_job(job_id: str, ledger: Path, *, seconds: float = 0.0, exit_code: int = 0, labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The request for a pipeline of two short tasks. They write down when they begin and end; the second registers a model of a few bytes."""
    given = {name: From(name) for name in ("ledger", "seconds", "exit_code", "name")}
    tasks = {
        "work": Fake(script=_MARK + _WORK, takes=given),
        "register": Fake(script=_MARK + _REGISTER, takes=given, after=["work"]),
    }
    values = {"ledger": str(ledger), "seconds": str(seconds), "exit_code": str(exit_code), "name": job_id}
    spec = pipeline(tasks, inputs=dict.fromkeys(values, str))
    return {"displayName": job_id, "labels": dict(labels or {}), "pipelineSpec": spec, "runtimeConfig": {"parameterValues": values}}


def real_job(service: ServiceProcess) -> dict[str, Any]:
    """A tuning job that tunes the embedded model for a few steps, as it is answered."""
    data = service.home / "train.jsonl"
    lines = (ROOT / "examples" / "stdlib-code" / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:32]), encoding="utf-8")
    spec = {"trainingDatasetUri": str(data), "hyperParameters": {"epochCount": 2}}
    status, answer = service.call("POST", f"/v1/{PLACE}/tuningJobs", {"baseModel": MODEL, "supervisedTuningSpec": spec})
    assert status == 200, answer
    return answer
