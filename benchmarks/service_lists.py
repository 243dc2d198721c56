"""How long does a page take when ten thousand jobs have ended? Lists of pipeline jobs and tuning jobs, over HTTP.

    python -m benchmarks.service_lists [--jobs 10000] [--requests 200] [--json FILE]

One real tuning job is run first. What the service keeps of it, and of its pipeline job, is then copied ten thousand times, each time with
an id, a display name, labels, times and a state of its own. Pages have 100 jobs; a page counts until its last byte has come.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks.service_process import PLACE, ServiceProcess, real_job
from tuneline.api.store import Body, Store

PAGE = 100
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Query = Mapping[str, Any]


def finished_job(service: ServiceProcess) -> str:
    """A real tuning job that has ended; its name."""
    name = real_job(service)["name"]
    while True:
        _, job = service.call("GET", f"/v1/{name}")
        if job["state"] in ("JOB_STATE_FAILED", "JOB_STATE_CANCELLED"):
            raise RuntimeError(f"the tuning job ended in {job['state']}: {job['error']}")
        if job["state"] == "JOB_STATE_SUCCEEDED":
            return str(name)
        time.sleep(0.2)


def fill(store: Store, name: str, count: int) -> None:
    """Copies of a finished tuning job and of its pipeline job."""
    tuning = store.get(name)
    pipeline = store.get(tuning["pipelineJob"])
    rng = random.Random(0)
    with store.transaction():
        for number in range(count):
            store.insert("pipelineJobs", {**copied(pipeline, number, "PIPELINE_STATE", rng), "displayName": display_name(number)})
            store.insert("tuningJobs", {**copied(tuning, number, "JOB_STATE", rng), "tunedModelDisplayName": display_name(number)})


def display_name(number: int) -> str:
    """In another order than the jobs' times."""
    return f"nightly {number * 7919 % 10_007:05d}"


def copied(body: Body, number: int, prefix: str, rng: random.Random) -> Body:
    """The job as another one, a minute later than the one before."""
    state = rng.choices(("SUCCEEDED", "FAILED", "CANCELLED"), (90, 5, 5))[0]
    begin = BEGIN + timedelta(minutes=number)
    times = {key: moment(begin + timedelta(seconds=seconds)) for key, seconds in (("createTime", 0), ("startTime", 2), ("endTime", 50), ("updateTime", 50))}
    kind, run = body["name"].split("/")[-2], f"nightly-{number:05d}"
    error = {} if state == "SUCCEEDED" else {"error": {"code": 1, "message": "The job was cancelled."}}
    private = {**body["_tuneline"], "run": run}
    labels = {"team": rng.choice("abcde"), "stage": "nightly"}
    return {**body, "name": f"{PLACE}/{kind}/{run}", "state": f"{prefix}_{state}", "labels": labels, "_tuneline": private, **times, **error}


def moment(time_of_day: datetime) -> str:
    return time_of_day.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def cases(service: ServiceProcess, kind: str, count: int) -> dict[str, Query]:
    """The lists that are measured."""
    prefix, name = ("PIPELINE_STATE", "display_name") if kind == "pipelineJobs" else ("JOB_STATE", "tuned_model_display_name")
    views: dict[str, Query] = {"": {}} if kind == "tuningJobs" else {"": {}, ", simple view": {"readMask": "name"}}
    pages = count // PAGE
    found: dict[str, Query] = {}
    for view, mask in views.items():
        for place, number in (("first", 0), ("middle", pages // 2), ("last", pages - 1)):
            found[f"{place} page{view}"] = {**mask, **page(service, kind, number)}
    simple = list(views.values())[-1]
    found["label, one job in five"] = {**simple, "filter": "labels.team=a"}
    found["label that no job has"] = {**simple, "filter": "labels.team=nobody"}
    found["display name"] = {**simple, "filter": f'{name}="{display_name(7)}"'}
    found["state and time"] = {**simple, "filter": f'state="{prefix}_FAILED" AND create_time>"{moment(BEGIN + timedelta(days=3))}"'}
    found["by display name"] = {**simple, "orderBy": name}
    found["by end, last first"] = {**simple, "orderBy": "end_time desc"}
    found["by display name, a label"] = {**simple, "orderBy": name, "filter": "labels.team=a"}
    return found


def page(service: ServiceProcess, kind: str, number: int) -> Query:
    """The query for a page, reached from the first one on."""
    query: dict[str, Any] = {}
    for _ in range(number):
        _, answer = service.call("GET", f"/v1/{PLACE}/{kind}?{urlencode({**query, 'pageSize': PAGE, 'readMask': 'name'})}")
        query = {"pageToken": answer["nextPageToken"]}
    return query


def measure(service: ServiceProcess, kind: str, query: Query, requests: int) -> dict[str, float]:
    """Milliseconds of one list, asked again and again on one connection, and its size."""
    connection = service.connect()
    path = f"/v1/{PLACE}/{kind}?{urlencode({**query, 'pageSize': PAGE})}"
    status, content = connection.call("GET", path)
    assert status == 200, content
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        connection.call("GET", path)
        took.append((time.perf_counter() - began) * 1000)
    return {
        "p50": statistics.median(took),
        "p99": statistics.quantiles(took, n=100)[98],
        "jobs": len(json.loads(content)[kind]),
        "kilobytes": len(content) / 1000,
    }


def table(figures: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = ["| list | case | p50 ms | p99 ms | jobs | kB |", "|---|---|---|---|---|---|"]
    for kind, rows in figures.items():
        lines += [f"| {kind} | {case} | {row['p50']:.1f} | {row['p99']:.1f} | {row['jobs']} | {row['kilobytes']:.0f} |" for case, row in rows.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200, help="of each list; at least 2")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    given = parser.parse_args()
    figures: dict[str, dict[str, dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        service = ServiceProcess(Path(folder) / "home", "--requests-per-second", "100000")
        try:
            service.start()
            service.wait()
            name = finished_job(service)
            service.end()
            fill(Store(service.home / "service" / "service.db"), name, given.jobs)
            service.start()
            service.wait()
            for kind in ("pipelineJobs", "tuningJobs"):
                figures[kind] = {case: measure(service, kind, query, given.requests) for case, query in cases(service, kind, given.jobs).items()}
        finally:
            service.end()
    print(table(figures))
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
