"""What does the tuning service hold when many clients come at once? Creations, looks, lists and predictions, and whether any job is lost.

    python -m benchmarks.service_load [--clients 64] [--seconds 60] [--requests-per-second 100000] [--json FILE]

Every client is a thread with a connection of its own and sends its next request when it has the answer to the last one: for each creation
four looks at a job of its own, two lists (a page of 100 jobs) and one prediction (8 tokens of a tiny Llama on this machine). One job
runs at a time meanwhile. At the end the jobs that are listed are compared with those whose creation was answered. Exits with 1 when
one is lost, listed twice or run twice, or when an answer was no success.
"""

import argparse
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.service_process import PLACE, ServiceProcess, Unanswered, tiny_job
from tests.modeling.tiny_model import write_base

MIX = {"create": 1, "get": 4, "list": 2, "predict": 1}
JOBS = f"/v1/{PLACE}/pipelineJobs"
PREDICTION = {"instances": [{"prompt": "def area(w, h):"}], "parameters": {"maxOutputTokens": 8, "temperature": 0}}


class Client(threading.Thread):
    """One client."""

    def __init__(self, number: int, service: ServiceProcess, endpoint: str, deadline: float) -> None:
        super().__init__(daemon=True)
        self.created: list[str] = []
        self.took: dict[str, list[float]] = {what: [] for what in MIX}
        """Seconds of each request."""
        self.refused: Counter[str] = Counter()
        self._name, self._service, self._endpoint, self._deadline = f"client{number}", service, endpoint, deadline
        self._connection = service.connect()
        self._random = random.Random(number)
        self._token = ""

    def run(self) -> None:
        while time.monotonic() < self._deadline:
            what = self._random.choices(list(MIX), list(MIX.values()))[0] if self.created else "create"
            began = time.perf_counter()
            try:
                status = getattr(self, what)()
            except Unanswered as error:
                status = type(error.__cause__).__name__
            self.took[what].append(time.perf_counter() - began)
            if status != 200:
                self.refused[f"{what}: {status}"] += 1

    def create(self) -> int:
        name = f"{self._name}-{len(self.created)}"
        request = tiny_job(name, self._service.home / "ledger" / name, labels={"client": self._name})
        status, _ = self._connection.call("POST", f"{JOBS}?pipelineJobId={name}", request)
        if status == 200:
            self.created.append(name)
        return status

    def get(self) -> int:
        return self._connection.call("GET", f"{JOBS}/{self._random.choice(self.created)}")[0]

    def list(self) -> int:
        """The next page, and the first one after the last."""
        status, content = self._connection.call("GET", f"{JOBS}?{urlencode({'pageSize': 100, 'readMask': 'name', 'pageToken': self._token})}")
        self._token = json.loads(content).get("nextPageToken", "")
        return status

    def predict(self) -> int:
        return self._connection.call("POST", f"/v1/{self._endpoint}:predict", PREDICTION)[0]


def deployed(service: ServiceProcess) -> tuple[str, str]:
    """A tiny Llama behind an endpoint: the names of the endpoint and of the deployed model."""
    folder = write_base(service.home / "tiny-model")
    model = _done(service, f"/v1/{PLACE}/models:upload", {"model": {"displayName": "tiny", "artifactUri": str(folder)}})["model"]
    endpoint = str(_done(service, f"/v1/{PLACE}/endpoints", {"displayName": "tiny"})["name"])
    answer = _done(service, f"/v1/{endpoint}:deployModel", {"deployedModel": {"model": model}})
    return endpoint, str(answer["deployedModel"]["id"])


def _done(service: ServiceProcess, path: str, body: object) -> dict[str, Any]:
    """The response of the operation that a request begins."""
    status, operation = service.call("POST", path, body)
    while status == 200 and not operation.get("done"):
        time.sleep(0.1)
        status, operation = service.call("GET", f"/ui/{operation['name']}")
    assert status == 200, operation
    assert "response" in operation, operation
    response: dict[str, Any] = operation["response"]
    return response


def problems(service: ServiceProcess, clients: list[Client]) -> Iterator[str]:
    """What is not as it should be afterwards."""
    created = Counter(name for client in clients for name in client.created)
    listed = Counter(str(job["displayName"]) for job in service.listed("pipelineJobs", pageSize=1000, readMask="name"))
    yield from (f"{name}: lost." for name in created.keys() - listed.keys())
    yield from (f"{name}: nobody was told that it was created." for name in listed.keys() - created.keys())
    yield from (f"{name}: listed {number} times." for name, number in listed.items() if number > 1)
    for file in (service.home / "ledger").iterdir():
        marks = Counter(line.rpartition(" ")[0] for line in file.read_text(encoding="utf-8").splitlines())
        yield from (f"{file.name}: {number} times {mark!r}." for mark, number in marks.items() if number > 1)
    for what, number in sum((client.refused for client in clients), Counter[str]()).items():
        yield f"{number} answers of {what}."
    yield from (f"the service's log: {line}" for line in service.log.read_text(encoding="utf-8").splitlines() if " ERROR " in line)


def figures_of(clients: list[Client], seconds: float) -> dict[str, dict[str, float]]:
    """Requests a second and milliseconds, by what was asked."""
    found = {}
    for what in MIX:
        took = [1000 * value for client in clients for value in client.took[what]]
        marks = statistics.quantiles(took, n=100)
        found[what] = {"requests": len(took), "per second": len(took) / seconds, "p50": marks[49], "p99": marks[98], "most": max(took)}
    return found


def table(figures: dict[str, dict[str, float]]) -> str:
    lines = ["| | requests | per second | p50 ms | p99 ms | most ms |", "|---|---|---|---|---|---|"]
    for what, row in figures.items():
        lines.append(f"| {what} | {row['requests']} | {row['per second']:.0f} | {row['p50']:.0f} | {row['p99']:.0f} | {row['most']:.0f} |")
    return "\n".join(lines)


def load(service: ServiceProcess, num_clients: int, seconds: float) -> tuple[list[Client], list[str]]:
    """Let the clients come; what they have seen, and what is wrong."""
    (service.home / "ledger").mkdir()
    service.start()
    service.wait()
    endpoint, deployed_model = deployed(service)
    try:
        deadline = time.monotonic() + seconds
        clients = [Client(number, service, endpoint, deadline) for number in range(num_clients)]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        return clients, list(problems(service, clients))
    finally:
        _done(service, f"/v1/{endpoint}:undeployModel", {"deployedModelId": deployed_model})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests-per-second", type=int, default=100_000, help="what the service allows one address")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess(Path(folder), "--requests-per-second", str(given.requests_per_second))
        try:
            clients, wrong = load(service, given.clients, given.seconds)
        finally:
            service.end()
            service.end_jobs()
    figures = figures_of(clients, given.seconds)
    print(table(figures), "", *(wrong or ["Every job whose creation was answered is listed, once; none was run twice; every answer was a success."]), sep="\n")
    if given.json:
        given.json.write_text(json.dumps({"figures": figures, "wrong": wrong}, indent=2) + "\n", encoding="utf-8")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
