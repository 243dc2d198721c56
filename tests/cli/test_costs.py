"""What stands and costs, as the command tells it."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.vertex.fake_cloud import FakeVertex, Refusal
from tests.vertex.stub_api import FakeTime
from tuneline.cli import main
from tuneline.vertex import rest
from tuneline.vertex.expiry import labels_of

LOCATION = "projects/acme/locations/us-central1"
COSTS = ["costs", "--project", "acme", "--region", "us-central1"]


def deployed(own_id: str, machine_type: str, **resources: Any) -> dict[str, Any]:
    machines = {"machineSpec": {"machineType": machine_type}, "minReplicaCount": 1, "maxReplicaCount": 4, **resources}
    return {"id": own_id, "model": f"{LOCATION}/models/m{own_id}", "modelVersionId": "2", "dedicatedResources": machines}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeVertex:
    """A project with two endpoints and three jobs."""
    api, vertex = FakeVertex(), rest.Vertex
    monkeypatch.setattr(rest, "Vertex", lambda region: vertex(region=region, session=api, clock=FakeTime().clock))  # type: ignore[arg-type]
    now = datetime.now(UTC)
    over, later = labels_of("1", 0, now - timedelta(hours=1)), labels_of("2", 5, now)
    first = {"deployedModels": [deployed("1", "g2-standard-12"), deployed("2", "a3-highgpu-2g")], "trafficSplit": {"1": 75, "2": 25}}
    second = {"deployedModels": [deployed("3", "g2-standard-12", spot=True), {"id": "4", "model": "m", "automaticResources": {"minReplicaCount": 2}}]}
    api.endpoints = {
        f"{LOCATION}/endpoints/e1": {
            "name": f"{LOCATION}/endpoints/e1",
            "displayName": "first",
            "labels": {**over, **later, "team": "a"},
            "etag": "1",
            **first,
        },
        f"{LOCATION}/endpoints/e2": {"name": f"{LOCATION}/endpoints/e2", "displayName": "second", "etag": "1", "trafficSplit": {"3": 100}, **second},
    }
    pool = {"machineSpec": {"machineType": "a2-ultragpu-8g", "acceleratorType": "NVIDIA_A100_80GB", "acceleratorCount": 8}, "replicaCount": "1"}
    api.running(f"{LOCATION}/customJobs/1", displayName="tuning", jobSpec={"workerPoolSpecs": [pool, {**pool, "replicaCount": "2"}]})
    return api


def test_endpoints_and_jobs_are_listed_with_what_they_cost_at_least(api: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COSTS, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    found = [
        (row["kind"], row["displayName"], row["machineType"], row["machines"], row["usdPerHour"] and round(row["usdPerHour"], 2)) for row in answer["standing"]
    ]
    assert found == [
        ("endpoint", "first", "g2-standard-12", 1, 1.0), ("endpoint", "first", "a3-highgpu-2g", 1, 22.12),
        ("endpoint", "second", "g2-standard-12", 1, None), ("endpoint", "second", "", 2, None),
        ("custom job", "tuning", "a2-ultragpu-8g", 1, 40.55), ("custom job", "tuning", "a2-ultragpu-8g", 2, 81.1),
    ]  # fmt: skip
    assert round(answer["usdPerHourAtLeast"], 2) == 144.77
    assert answer["priceDates"] == ["2025-03-06"]
    assert (answer["standing"][1]["traffic"], answer["standing"][1]["model"], answer["undeployed"]) == (25, f"{LOCATION}/models/m2@2", [])


def test_people_read_a_table_that_says_what_is_not_known(api: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(COSTS) == 0
    header, *rows, total, source = capsys.readouterr().out.splitlines()
    assert header.split() == ["KIND", "NAME", "ID", "MACHINES", "TRAFFIC", "USD/HOUR", "UNDEPLOY"]
    assert rows[0].split("  ")[0] == "endpoint"
    assert rows[0].endswith("UTC (over)")
    assert "1 x g2-standard-12 (spot)" in rows[2]
    assert "2 x chosen by Vertex AI" in rows[3]
    assert "price not known" in rows[2]
    assert total == "At least 144.77 USD an hour; price not known of 2."
    assert source == "Prices: Compute Engine's on demand, of 2025-03-06. Vertex AI charges more."


def test_only_what_has_expired_is_undeployed_and_the_traffic_goes_to_the_others(api: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COSTS, "--undeploy-expired"]) == 0
    assert f"undeployed {LOCATION}/models/m1@2 from {LOCATION}/endpoints/e1" in capsys.readouterr().out
    endpoint = api.endpoints[f"{LOCATION}/endpoints/e1"]
    assert [each["id"] for each in endpoint["deployedModels"]] == ["2"]
    assert endpoint["trafficSplit"] == {"2": 100}
    assert set(endpoint["labels"]) == {"tuneline-undeploy-2", "team"}
    assert main([*COSTS, "--undeploy-expired", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["undeployed"] == []
    assert len(api.asked(":undeployModel")) == 1


def test_one_model_that_cannot_be_taken_off_keeps_no_other_there(api: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    api.endpoints[f"{LOCATION}/endpoints/e2"]["labels"] = {"tuneline-undeploy-3": "20200101t000000z"}
    api.refuse = lambda what: Refusal(403, "not yours", "PERMISSION_DENIED") if "e1:undeployModel" in what else None
    assert main([*COSTS, "--undeploy-expired"]) == 1
    told = capsys.readouterr()
    assert f"from {LOCATION}/endpoints/e2" in told.out
    assert "not yours" in told.err
    assert "These models are still there" in told.err


def test_an_empty_region_costs_nothing(api: FakeVertex, capsys: pytest.CaptureFixture[str]) -> None:
    api.endpoints, api.others = {}, {}
    assert main(COSTS) == 0
    assert capsys.readouterr().out == "Nothing stands there.\n"


def test_prices_of_ones_own_count(api: FakeVertex, tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    catalog = tmp_path / "mine.toml"
    catalog.write_text('[[price]]\nid = "g2-us-central1"\nusd_per_hour = 1.15\n')
    assert main([*COSTS, "--catalog", str(catalog), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["standing"][0]["usdPerHour"] == 1.15
