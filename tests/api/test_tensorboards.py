"""TensorBoards by Google's own client, and the scalars of a job."""

import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.api.conftest import PARENT
from tests.api.test_pipeline_jobs import request_body
from tuneline.api import run_scalars
from tuneline.api.jobs import JobState, Look, Runner
from tuneline.api.resources.pipeline_job_view import PRIVATE
from tuneline.api.service import Service
from tuneline.local.run_record import Artifact, RunRecord, RunState, TaskRecord, TaskState, Values

BOARDS = f"{PARENT}/tensorboards"


@pytest.fixture
def board(client: TestClient) -> str:
    return str(client.post(BOARDS, json={"displayName": "mine"}).json()["response"]["name"])


def test_points_come_back_as_they_were_written(client: TestClient, board: str) -> None:
    experiment = client.post(f"/v1/{board}/experiments", params={"tensorboardExperimentId": "e"}, json={"display_name": "e"}).json()["name"]
    run = client.post(f"/v1/{experiment}/runs", params={"tensorboardRunId": "r"}, json={"displayName": "r"}).json()["name"]
    series = client.post(f"/v1/{run}/timeSeries", json={"displayName": "/train_total_loss", "valueType": 1, "pluginName": "scalars"}).json()
    own_id = series["name"].rpartition("/")[2]
    values = [{"wallTime": "2026-11-24T00:00:00Z", "step": str(step), "scalar": {"value": step / 2}} for step in (2, 1)]
    body = {"timeSeriesData": [{"tensorboardTimeSeriesId": own_id, "valueType": 1, "values": values}]}
    assert client.post(f"/v1/{run}:write", json=body).json() == {}
    data = client.get(f"/v1/{series['name']}:read").json()["timeSeriesData"]
    assert [(point["step"], point["scalar"]["value"]) for point in data["values"]] == [("1", 0.5), ("2", 1.0)]
    assert client.get(f"/v1/{board}:batchRead", params={"timeSeries": series["name"]}).json()["timeSeriesData"] == [data]
    body["timeSeriesData"][0]["tensorboardTimeSeriesId"] = "none"
    assert client.post(f"/v1/{run}:write", json=body).status_code == 404
    assert client.delete(f"/v1/{board}").json()["done"] is True
    assert client.get(f"/v1/{series['name']}").status_code == 404


def test_what_does_not_fit_is_refused(client: TestClient, board: str) -> None:
    experiment = f"/v1/{board}/experiments"
    assert client.post(f"{experiment}/none/runs", json={}).status_code == 404
    assert client.post(experiment, params={"tensorboardExperimentId": "a/b"}, json={}).status_code == 400
    assert client.post(experiment, params={"tensorboardExperimentId": "e"}, json={}).status_code == 200
    assert client.post(experiment, params={"tensorboardExperimentId": "e"}, json={}).status_code == 409
    run = client.post(f"{experiment}/e/runs", params={"tensorboardRunId": "r"}, json={}).json()["name"]
    assert client.post(f"/v1/{run}/timeSeries", json={"valueType": "TENSOR"}).status_code == 400
    assert [item["name"] for item in client.get(experiment).json()["tensorboardExperiments"]] == [f"{board}/experiments/e"]
    for mask in ({"updateMask": "displayName"}, {"update_mask": "display_name"}):
        changed = client.patch(f"/v1/{run}", params=mask, json={"displayName": str(mask), "description": "y"}).json()
        assert (changed["displayName"], "description" in changed) == (str(mask), False)
    assert "cannot be changed here" in client.patch(f"/v1/{run}", params={"updateMask": "displayNames"}, json={}).json()["error"]["message"]


def test_a_job_leaves_its_scalars(client: TestClient, service: Service, board: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runner, "_start", lambda _self, _job_id: None)
    refused = client.post(f"{PARENT}/pipelineJobs", json=request_body(tensorboard_resource_id=f"{board}0"))
    assert "does not exist here" in refused.json()["error"]["message"]
    job = client.post(f"{PARENT}/pipelineJobs", json=request_body(tensorboard_resource_id=board), params={"pipelineJobId": "j"}).json()
    history = tmp_path / "history.json"
    rows = [{"step": step, "total_loss": 3.0 - step, "fraction_of_correct_next_step_preds": 0.5, "num_predictions": 7} for step in (1, 2)]
    history.write_text(json.dumps({"steps": 2, "train": rows, "eval": rows[:1]}))
    times = {"create_time": "2026-11-24T00:00:00Z", "start_time": "2026-11-24T00:00:00Z", "end_time": "2026-11-24T00:00:10Z"}
    outputs = Values(artifacts={"history": Artifact(uri=str(history), schema_title="system.Metrics", metadata={})})
    task = TaskRecord(name="tune-model", state=TaskState.SUCCEEDED, outputs=outputs, **times)
    record = RunRecord(name="j", pipeline="p", template="t", parameters={}, state=RunState.SUCCEEDED, tasks={"tune-model": task}, **times)
    for _ in range(2):
        run_scalars.publish(service, service.store.get(job["name"]), Look(state=JobState.SUCCEEDED, record=record))
    series = client.get(f"/v1/{board}/experiments/j/runs/tune-model/timeSeries").json()["tensorboardTimeSeries"]
    assert {item["displayName"] for item in series} == {
        f"/{split}_{metric}" for split in ("train", "eval") for metric in ("total_loss", "fraction_of_correct_next_step_preds", "num_predictions")
    }
    data = client.get(f"/v1/{board}/experiments/j/runs/tune-model/timeSeries/train_total_loss:read").json()["timeSeriesData"]
    assert [(point["step"], point["wallTime"], point["scalar"]["value"]) for point in data["values"]] == [
        ("1", "2026-11-24T00:00:05.000Z", 2.0),
        ("2", "2026-11-24T00:00:10.000Z", 1.0),
    ]
    history.write_text("damaged")
    run_scalars.publish(service, service.store.get(job["name"]), Look(state=JobState.SUCCEEDED, record=record))
    assert PRIVATE in service.store.get(job["name"])
