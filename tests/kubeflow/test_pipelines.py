"""Runs of Kubeflow Pipelines, through kfp's real client: what it is sent, what comes back, and what a failure means."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import kfp
import pytest

from tests.vertex.stub_api import HANG_UP, Asked, StubApi
from tuneline import remote_job
from tuneline.cli import main
from tuneline.errors import InfrastructureError, NotFoundError, TunelineError, UserError
from tuneline.kubeflow.pipelines import TOKEN, Kubeflow, RunOptions, sent_spec
from tuneline.templates import load

API = "/apis/v2beta1"
JOB = ["--project", "p", "--dataset-uri", "gs://bucket/d.jsonl", "--model-display-name", "m", "--train-steps", "20", "--upload-model", "false"]
EPOCH = "1970-01-01T00:00:00Z"


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings of this machine's own client, and no waiting."""
    monkeypatch.setattr(kfp.Client, "_LOCAL_KFP_CONTEXT", str(tmp_path / "none.json"))
    monkeypatch.setattr(remote_job, "POLL_SECONDS", 0.0)
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.fixture
def kubeflow(api: StubApi) -> StubApi:
    """An installation without experiments that takes every run."""
    api.on("GET", f"{API}/healthz", (200, {"multi_user": False})).on("GET", f"{API}/experiments", (200, {}))
    api.on("POST", f"{API}/experiments", (200, {"experiment_id": "e1", "display_name": "Default"}))
    api.on(
        "POST",
        f"{API}/runs",
        lambda asked: (200, {**asked.body, "run_id": "r1", "state": "PENDING", "created_at": "2026-11-22T05:00:00Z", "finished_at": EPOCH}),
    )
    return api


def run(state: str, *tasks: dict[str, Any], **more: Any) -> tuple[int, Any]:
    times = {"created_at": "2026-11-22T05:00:00Z", "finished_at": "2026-11-22T05:01:04Z" if state in ("SUCCEEDED", "FAILED") else EPOCH}
    return 200, {"run_id": "r1", "display_name": "mine", "state": state, **times, "run_details": {"task_details": list(tasks)}, **more}


def task(name: str, state: str, **more: Any) -> dict[str, Any]:
    return {
        "display_name": name,
        "state": state,
        "start_time": "2026-11-22T05:00:01Z",
        "end_time": EPOCH if state == "RUNNING" else "2026-11-22T05:00:03Z",
        **more,
    }


def sent(kubeflow: StubApi, kind: str) -> Asked:
    [asked] = [asked for asked in kubeflow.asked if (asked.method, asked.path) == ("POST", f"{API}/{kind}")]
    return asked


def test_a_dry_run_prints_what_kfp_s_client_sends(kubeflow: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["tune-large-model", "--kubeflow", kubeflow.address, *JOB, "--display-name", "mine", "--pipeline-root", "gs://bucket/out"]
    for more in ([], ["--no-cache"], ["--service-account", "runner"]):
        kubeflow.asked.clear()
        assert main(["submit", *job, *more, "--dry-run", "--json"]) == 0
        printed = json.loads(capsys.readouterr().out)
        assert kubeflow.asked == []
        assert main(["submit", *job, *more, "--no-wait"]) == 0
        capsys.readouterr()
        real = sent(kubeflow, "runs")
        assert (printed["method"], printed["url"]) == ("POST", f"{kubeflow.address}{real.path}")
        assert printed["body"] | {"experiment_id": "e1"} == real.body
        assert real.body["runtime_config"]["parameters"]["train_steps"] == 20


def test_only_the_run_s_id_is_printed_without_waiting(kubeflow: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", "tune-large-model", "--kubeflow", kubeflow.address, *JOB, "--no-wait"]) == 0
    assert capsys.readouterr().out == "r1\n"
    assert sent(kubeflow, "runs").body["display_name"].startswith("tune-large-model-")


def test_experiment_namespace_and_token_are_passed_on(kubeflow: StubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "a-token")
    place = ["--kubeflow", kubeflow.address, "--experiment", "tuning", "--namespace", "team"]
    assert main(["submit", "tune-large-model", *place, *JOB, "--no-wait"]) == 0
    assert sent(kubeflow, "experiments").body == {"display_name": "tuning", "namespace": "team"}
    assert {asked.headers.get("authorization") for asked in kubeflow.asked} == {"Bearer a-token"}


def test_a_run_is_watched_until_it_has_ended(kubeflow: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    kubeflow.on(
        "GET",
        f"{API}/runs/r1",
        run("RUNNING", task("validate-parameters-driver", "RUNNING")),
        run("RUNNING", task("validate-parameters", "RUNNING"), task("root", "RUNNING")),
        run("SUCCEEDED", task("validate-parameters", "SUCCEEDED"), task("tune-model", "SKIPPED"), task("root", "SUCCEEDED")),
    )
    assert main(["submit", "tune-large-model", "--kubeflow", kubeflow.address, *JOB]) == 0
    told = capsys.readouterr()
    lines = [line.split()[:2] for line in told.err.splitlines() if line.startswith(("validate", "tune-model ", "root"))]
    assert lines == [["validate-parameters", "running"], ["validate-parameters", "succeeded"], ["tune-model", "cached:"]]
    assert told.out.splitlines()[0] == "r1 succeeded in 1:04."


@pytest.mark.parametrize(("message", "code"), [("main: Error (exit code 1)", 1), ("main: Error (exit code 13)", 13), ("pod deleted", 13)])
def test_a_failed_run_ends_with_the_code_of_its_task(kubeflow: StubApi, message: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    failed = task("tune-model", "FAILED", error={"code": 13, "message": message})
    kubeflow.on("GET", f"{API}/runs/r1", run("FAILED", failed))
    assert main(["submit", "tune-large-model", "--kubeflow", kubeflow.address, *JOB, "--json"]) == code
    told = json.loads(capsys.readouterr().out)
    assert (told["state"], told["error"]["step"], told["error"]["cause"]) == ("PIPELINE_STATE_FAILED", "tune-model", message)


def test_parameters_are_checked_for_a_cluster_before_anything_is_sent(kubeflow: StubApi, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ["--large-model-reference", "gpt@1", "--train-steps", "0", "--location", "mars"]
    assert main(["submit", "tune-large-model", "--kubeflow", kubeflow.address, "--dataset-uri", "/data/d.jsonl", *wrong]) == 1
    told = capsys.readouterr().err
    assert "train_steps: found 0" in told
    assert "large_model_reference" in told
    assert "location: found 'mars'" in told
    assert "/data/d.jsonl" not in told
    assert kubeflow.asked == []


def options(api: StubApi, **changes: Any) -> RunOptions:
    return RunOptions(**{"host": api.address, "name": "mine", **changes})


@pytest.mark.parametrize(
    ("answer", "kind", "told"),
    [
        ((401, {"error": "who are you", "code": 16}), UserError, "who are you"),
        ((403, b"<html>Forbidden</html>"), UserError, "Forbidden"),
        ((302, b"<a href=/login>"), UserError, "302"),
        ((404, b"no such page"), NotFoundError, "no such page"),
        ((502, b"Bad Gateway"), InfrastructureError, "Bad Gateway"),
        (HANG_UP, InfrastructureError, "Connection"),
    ],
)
def test_an_address_that_is_not_kubeflow_s_is_told_at_once(api: StubApi, answer: Any, kind: type[TunelineError], told: str) -> None:
    api.on("GET", f"{API}/healthz", answer)
    with pytest.raises(TunelineError, match=told) as raised:
        Kubeflow(options=options(api))
    assert type(raised.value) is kind
    assert len(api.asked) <= 2


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"error": "bad spec", "code": 3, "message": "bad spec"}), UserError),
        ((503, {"message": "busy"}), InfrastructureError),
        (HANG_UP, InfrastructureError),
    ],
)
def test_a_run_whose_creation_fails_is_made_once(kubeflow: StubApi, answer: Any, kind: type[TunelineError]) -> None:
    kubeflow.on("POST", f"{API}/runs", answer)
    with pytest.raises(TunelineError) as raised:
        Kubeflow(options=options(kubeflow)).create(load("tune-large-model"), {})
    assert type(raised.value) is kind
    assert ("look for 'mine'" in raised.value.next_action) is (kind is InfrastructureError)
    assert sent(kubeflow, "runs")


def test_two_experiments_of_one_name_are_the_user_s_to_sort_out(kubeflow: StubApi) -> None:
    kubeflow.on("GET", f"{API}/experiments", (200, {"experiments": [{"experiment_id": "1"}, {"experiment_id": "2"}]}))
    with pytest.raises(UserError, match="Multiple experiments"):
        Kubeflow(options=options(kubeflow)).create(load("tune-large-model"), {})


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("kubeflow.example.com", "https://kubeflow.example.com"),
        ("http://localhost:8888/", "http://localhost:8888"),
        ("https://h/pipeline", "https://h/pipeline"),
    ],
)
def test_a_host_without_a_scheme_is_asked_by_https(host: str, address: str) -> None:
    assert RunOptions(host=host, name="x").address == address


def test_without_the_cache_the_tasks_of_all_groups_are_run() -> None:
    def spec() -> dict[str, Any]:
        cached = {"cachingOptions": {"enableCache": True}}
        return {"root": {"dag": {"tasks": {"a": {**cached}}}}, "components": {"group": {"dag": {"tasks": {"b": {**cached}}}}, "leaf": {"executorLabel": "x"}}}

    template = replace(load("tune-large-model"), spec=spec())
    assert sent_spec(template, RunOptions(host="h", name="n")) == spec()
    changed = sent_spec(template, RunOptions(host="h", name="n", has_caching=False))
    assert (changed["root"]["dag"]["tasks"]["a"], changed["components"]["group"]["dag"]["tasks"]["b"]) == ({"cachingOptions": {}}, {"cachingOptions": {}})
