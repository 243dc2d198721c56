"""Recurring runs of Kubeflow Pipelines, through kfp's real client: what it is sent, what comes back, and what Kubeflow has not."""

import json
from typing import Any

import pytest

from tests.kubeflow.test_pipelines import API, alone, kubeflow, sent
from tests.vertex.stub_api import Asked, StubApi
from tuneline.cli import main

__all__ = ["alone", "kubeflow"]
RUNS = f"{API}/recurringruns"
JOB = ["--project", "p", "--dataset-uri", "gs://bucket/d.jsonl", "--train-steps", "20", "--upload-model", "false", "--display-name", "weekly"]


def kept(status: str = "ENABLED", **more: Any) -> dict[str, Any]:
    trigger = {"cron_schedule": {"cron": "0 0 3 * * 1"}}
    return {"recurring_run_id": "s1", "display_name": "weekly", "status": status, "trigger": trigger, "created_at": "2026-11-22T05:00:00Z", **more}


@pytest.fixture
def keeper(kubeflow: StubApi) -> StubApi:
    """An installation that takes every recurring run."""
    return kubeflow.on("POST", RUNS, lambda asked: (200, {**asked.body, **kept()})).on("GET", f"{RUNS}/s1", (200, kept()))


def create(api: StubApi, *more: str, cron: str = "0 3 * * 1") -> int:
    return main(["schedule", "create", "tune-large-model", "--kubeflow", api.address, "--cron", cron, *JOB, *more])


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["--no-cache", "--service-account", "runner", "--pipeline-root", "gs://bucket/out"],
        ["--max-concurrent-runs", "3", "--start-time", "2026-11-24T00:00:00Z", "--end-time", "2027-11-24T00:00:00Z"],
    ],
    ids=len,
)
def test_a_dry_run_prints_what_kfp_s_client_sends(keeper: StubApi, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert create(keeper, *more, "--dry-run", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert keeper.asked == []
    assert create(keeper, *more) == 0
    told = capsys.readouterr()
    real = sent(keeper, "recurringruns")
    assert (printed["method"], printed["url"]) == ("POST", f"{keeper.address}{real.path}")
    assert printed["body"] | {"experiment_id": "e1"} == real.body
    assert real.body["trigger"]["cron_schedule"]["cron"] == "0 0 3 * * 1"
    assert (real.body["mode"], real.body["no_catchup"]) == ("ENABLE", True)
    assert real.body["runtime_config"]["parameters"]["model_display_name"] == "weekly"
    assert told.out == "s1\n"
    assert told.err.endswith(f"Pause it: tuneline schedule pause s1 --kubeflow {keeper.address}\n")


def test_what_kubeflow_has_not_is_refused_before_anything_is_sent(keeper: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert create(keeper, "--max-runs", "3", "--allow-queueing", "--max-concurrent-runs", "11", cron="TZ=Europe/Berlin 0 3 * * 1") == 1
    told = capsys.readouterr().err
    for part in ("--cron: found 'TZ=Europe/Berlin 0 3 * * 1'; Kubeflow has one time zone", "--max-runs: Kubeflow", "--allow-queueing: Kubeflow", "at most 10"):
        assert part in told
    assert create(keeper, cron="x") == 1
    assert "--cron: found 'x'" in capsys.readouterr().err
    assert keeper.asked == []


def test_a_recurring_run_may_skip_and_have_a_gate(keeper: StubApi) -> None:
    assert create(keeper, "--skip-unchanged", "--champion-gate", "--evaluation-data-uri", "gs://bucket/e.jsonl", "--pipeline-root", "gs://bucket/out") == 0
    given = sent(keeper, "recurringruns").body["runtime_config"]["parameters"]
    assert (given["skip_unchanged"], given["champion_gate"]) == (True, True)


def command(api: StubApi, *words: str) -> int:
    return main(["schedule", *words, "--kubeflow", api.address])


def test_recurring_runs_are_listed_page_by_page(keeper: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    second = kept("DISABLED", recurring_run_id="s2")
    keeper.on("GET", RUNS, (200, {"recurringRuns": [kept()], "next_page_token": "t"}), (200, {"recurringRuns": [second]}))
    assert command(keeper, "list", "--namespace", "team") == 0
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]] == [["s1", "ACTIVE"], ["s2", "PAUSED"]]
    queries = [asked.query for asked in keeper.asked if asked.path == RUNS]
    assert [query.get("page_token") for query in queries] == [None, ["t"]]
    assert {tuple(query["namespace"]) for query in queries} == {("team",)}


def test_one_is_shown_paused_resumed_and_deleted(keeper: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def note(asked: Asked) -> tuple[int, Any]:
        seen.append(f"{asked.method} {asked.path.removeprefix(API)}")
        return 200, {}

    keeper.on("POST", f"{RUNS}/s1:(disable|enable)", note).on("DELETE", f"{RUNS}/s1", note)
    for verb in ("show", "pause", "resume", "delete"):
        assert command(keeper, verb, "s1") == 0
    assert seen == ["POST /recurringruns/s1:disable", "POST /recurringruns/s1:enable", "DELETE /recurringruns/s1"]
    assert capsys.readouterr().out.splitlines()[0] == "s1  ACTIVE"
    assert command(keeper, "resume", "s1", "--catch-up") == 2


def test_one_that_is_not_there_is_told(keeper: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    keeper.on("GET", f"{RUNS}/s1", (404, {"error": "no such recurring run", "code": 5}))
    assert command(keeper, "show", "s1") == 1
    assert "no such recurring run" in capsys.readouterr().err
