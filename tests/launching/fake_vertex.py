"""Vertex AI's custom jobs in memory, and machines that run them: processes of this machine, whose Cloud Storage is a folder."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tuning.ranks import free_port
from tuneline.errors import NotFoundError
from tuneline.vertex.rest import Json

ROOT = Path(__file__).parents[2]


@dataclass
class MemoryClaims:
    """Objects with generations."""

    objects: dict[str, tuple[bytes, int]] = field(default_factory=dict)

    def read(self, uri: str) -> tuple[bytes, int] | None:
        return self.objects.get(uri)

    def write(self, uri: str, content: bytes, *, generation: int) -> int | None:
        if self.objects.get(uri, (b"", 0))[1] != generation:
            return None
        self.objects[uri] = (content, generation + 1)
        return generation + 1


@dataclass
class FakeVertex:
    """One API for all regions. `at_look` sees each job before it is told; what it raises is the answer."""

    jobs: dict[str, Json] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    at_creation: Callable[[Json], None] = lambda _job: None
    at_look: Callable[[Json], None] = lambda _job: None
    at_cancellation: Callable[[Json], None] = lambda _job: None
    address: str = "https://europe-west4-aiplatform.googleapis.com"
    version: str = "v1"

    @property
    def newest(self) -> Json:
        return list(self.jobs.values())[-1]

    def post(self, name: str, body: Json, *, is_repeatable: bool = False) -> Json:
        if name.endswith(":cancel"):
            assert is_repeatable
            self.cancelled.append(name.removesuffix(":cancel"))
            self.at_cancellation(self.jobs[self.cancelled[-1]])
            self.jobs[self.cancelled[-1]]["state"] = "JOB_STATE_CANCELLED"
            return {}
        job = {**body, "name": f"{name}/{len(self.jobs) + 1}", "state": "JOB_STATE_PENDING"}
        self.at_creation(job)
        self.jobs[job["name"]] = job
        return job

    def get(self, name: str) -> Json:
        if name not in self.jobs:
            raise NotFoundError(name)
        self.at_look(self.jobs[name])
        return self.jobs[name]

    def list(self, collection: str, *, filter: str) -> Iterator[Json]:  # noqa: A002
        for name, job in self.jobs.items():
            if name.startswith(f"{collection}/") and filter in {f'labels.{key}="{value}"' for key, value in job["labels"].items()}:
                yield job


@dataclass
class Machines:
    """What stands behind `FakeVertex` where jobs are really run."""

    buckets: Path
    environment: dict[str, str]
    processes: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)
    logs: dict[int, Path] = field(default_factory=dict)

    def start(self, job: Json) -> None:
        """Each replica's own command."""
        pools = job["jobSpec"]["workerPoolSpecs"]
        replicas = [(number, index, pool) for number, pool in enumerate(pools) for index in range(int(pool["replicaCount"]))]
        address = f"127.0.0.1:{free_port()}"
        cluster = {f"workerpool{number}": [address] * int(pool["replicaCount"]) for number, pool in enumerate(pools)}
        self.processes[job["name"]] = [
            self._start(pool["containerSpec"], {"cluster": cluster, "task": {"type": f"workerpool{number}", "index": index}})
            for number, index, pool in replicas
        ]

    def log(self, job: Json) -> str:
        """What the first replica has written to standard error."""
        return self.logs[self.processes[job["name"]][0].pid].read_text(encoding="utf-8")

    def _start(self, container: Any, spec: Json) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]), "OMP_NUM_THREADS": "1", "CLUSTER_SPEC": json.dumps(spec),
            "TUNELINE_GCS_FOLDER": str(self.buckets), **self.environment, **{variable["name"]: variable["value"] for variable in container["env"]},
        }  # fmt: skip
        assert container["command"] == ["python", "-m", "tuneline.steps.staged"]
        command = [sys.executable, "-m", "tests.launching.quick_staged", *container["args"]]
        log = self.buckets.parent / f"replica-{len(self.logs)}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=environment, start_new_session=True, stderr=file)
        self.logs[process.pid] = log
        return process

    def look(self, job: Json) -> None:
        """Set the job's state by what has become of its replicas."""
        codes = [process.poll() for process in self.processes[job["name"]]]
        if job["state"] == "JOB_STATE_CANCELLED":
            return
        failed = [(index, code) for index, code in enumerate(codes) if code]
        job["state"] = "JOB_STATE_FAILED" if failed else "JOB_STATE_RUNNING" if None in codes else "JOB_STATE_SUCCEEDED"
        if failed:
            job["error"] = {"code": 3, "message": f"The replica workerpool0-{failed[0][0]} exited with a non-zero status of {failed[0][1]}."}

    def send(self, job: Json, number: signal.Signals) -> None:
        """A signal to all processes of all replicas, as when a machine is taken away."""
        for process in self.processes[job["name"]]:
            os.killpg(process.pid, number)

    def wait(self, job: Json) -> list[int]:
        """The exit codes of all replicas."""
        return [process.wait(60) for process in self.processes[job["name"]]]

    def close(self) -> None:
        """Nothing is left running."""
        for process in (process for processes in self.processes.values() for process in processes):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
