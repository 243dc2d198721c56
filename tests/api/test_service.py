"""The whole service over HTTP: objects of its buckets are what its jobs read."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PARENT, TRAINING_DATA
from tests.api.test_pipeline_jobs import finished_job, request_body
from tuneline.api.server import address_for_jobs
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.vertex.rest import ENDPOINT, TOKEN


def test_a_job_reads_what_was_uploaded(client: TestClient, service: Service) -> None:
    assert client.post("/storage/v1/b", json={"name": "bucket"}, params={"project": "proj"}).status_code == 200
    first, second = TRAINING_DATA.read_bytes().splitlines(keepends=True)[:2]
    bad = first + json.dumps({"input_text": 1}).encode() + b"\n" + second
    sent = client.post("/upload/storage/v1/b/bucket/o", params={"uploadType": "media", "name": "data/train.jsonl"}, content=bad)
    assert sent.status_code == 200, sent.text
    client.post(f"{PARENT}/pipelineJobs", json=request_body(dataset_uri="gs://bucket/data/train.jsonl"), params={"pipelineJobId": "x"})
    job = finished_job(client, "x")
    assert job["state"] == "PIPELINE_STATE_FAILED"
    assert "gs://bucket/data/train.jsonl:2" in str(job["error"])


def test_uploads_may_be_large_and_other_bodies_not(client: TestClient, service: Service) -> None:
    client.post("/storage/v1/b", json={"name": "bucket"}, params={"project": "proj"})
    content = b"x" * (service.settings.max_body_bytes + 1)
    assert client.post("/upload/storage/v1/b/bucket/o", params={"uploadType": "media", "name": "big"}, content=content).status_code == 200
    assert client.post(f"{PARENT}/pipelineJobs", content=content).status_code == 413


def test_gs_uris_mean_the_services_buckets_only_while_it_is_open(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.environ["TUNELINE_GCS_FOLDER"] == str(service.settings.buckets)


def test_the_description_names_every_resource(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    for collection in ("pipelineJobs", "schedules", "tensorboards"):
        assert f"/v1/projects/{{project}}/locations/{{location}}/{collection}" in described["paths"]
    names = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("settings", "address"),
    [({}, "http://127.0.0.1:8080"), ({"host": "::"}, "http://[::1]:8080"), ({"host": "::1", "port": 9}, "http://[::1]:9"), ({"port": 0}, None)],
)
def test_jobs_are_told_where_vertex_ai_is(settings: dict[str, Any], address: str | None, tmp_path: Path) -> None:
    told = address_for_jobs(Settings(home=tmp_path, runs_dir=tmp_path, token="t", **settings))
    assert told == ({ENDPOINT: address, TOKEN: "t"} if address else {})
