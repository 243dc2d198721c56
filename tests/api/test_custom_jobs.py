"""Custom jobs: what is refused, what is recorded, the replicas' processes and how they end, and the next service."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.custom_job_bench import END_STATES, STEP, command_of, deploying_nothing, job_of, pool, reached, wait_for, waiting_step
from tests.api.endpoint_bench import Bench, error, of_its_own, opened
from tuneline.api.app import create_app
from tuneline.api.jobs import JobState, Look
from tuneline.api.resources import custom_jobs
from tuneline.api.resources.custom_job_view import progressed
from tuneline.api.resources.machine_shapes import FIXED
from tuneline.api.resources.pipeline_job_view import ORDER
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.local.run_record import Failure, RunRecord, RunState
from tuneline.steps import select_checkpoint

TORCHRUN = ["python3", "-m", "torch.distributed.run"]
KEY = "projects/p/locations/{}/keyRings/r/cryptoKeys/k"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A service that starts no custom job."""
    with opened(tmp_path_factory.mktemp("home")) as bench:
        bench.service.custom_jobs.close()
        yield bench


@pytest.fixture
def bench(shared: Bench) -> Bench:
    return of_its_own(shared)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A service that does."""
    with opened(tmp_path_factory.mktemp("running")) as bench:
        yield of_its_own(bench)


def created(bench: Bench, body: dict[str, Any]) -> dict[str, Any]:
    answer = bench.client.post(f"/v1/{bench.place}/customJobs", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def ended(bench: Bench, name: str) -> dict[str, Any]:
    return dict(wait_for(lambda: (job := bench.get(name))["state"] in END_STATES and job))


def order_of(bench: Bench, name: str) -> dict[str, Any]:
    """The pipeline that the job's process runs."""
    return dict(bench.service.store.get(name)[ORDER]["template"])


def test_a_job_is_answered_in_the_words_of_proto_json(bench: Bench) -> None:
    machine = {"machine_type": "n1-standard-8", "accelerator_type": 5, "accelerator_count": 2.0}
    container = {"image_uri": "example.org/t:1", "command": ["python"], "args": ["-m", STEP], "env": [{"name": "TUNELINE_X", "value": "y"}]}
    spec = {
        "worker_pool_specs": [{"machine_spec": machine, "replica_count": "1", "container_spec": container, "disk_spec": {"boot_disk_size_gb": 100}}],
        "scheduling": {"timeout": "3600s", "strategy": 6, "max_wait_duration": "0s"}, "service_account": "me@p.iam", "network": "projects/1/global/networks/n",
        "base_output_directory": {"output_uri_prefix": "gs://b/o"}, "persistent_resource_id": "mine",
    }  # fmt: skip
    body = {"display_name": "j", "job_spec": spec, "labels": {"a": "b"}, "encryption_spec": {"kms_key_name": KEY.format("us-central1")}}
    job = created(bench, body)
    assert job["name"].startswith(f"{bench.place}/customJobs/")
    assert job["name"].rpartition("/")[2].isdecimal()
    assert {key: job[key] for key in job if key not in ("name", "createTime", "updateTime")} == {
        "displayName": "j", "labels": {"a": "b"}, "encryptionSpec": {"kmsKeyName": KEY.format("us-central1")}, "state": "JOB_STATE_QUEUED",
        "jobSpec": {
            "workerPoolSpecs": [{
                "machineSpec": {"machineType": "n1-standard-8", "acceleratorType": "NVIDIA_TESLA_T4", "acceleratorCount": 2}, "replicaCount": "1",
                "containerSpec": {"imageUri": "example.org/t:1", "command": ["python"], "args": ["-m", STEP], "env": [{"name": "TUNELINE_X", "value": "y"}]},
                "diskSpec": {"bootDiskSizeGb": 100},
            }],
            "scheduling": {"timeout": "3600s", "strategy": "FLEX_START", "maxWaitDuration": "0s"}, "serviceAccount": "me@p.iam",
            "network": "projects/1/global/networks/n", "baseOutputDirectory": {"outputUriPrefix": "gs://b/o"}, "persistentResourceId": "mine",
        },
    }  # fmt: skip
    assert bench.client.get(f"/v1beta1/{job['name']}").json() == job
    assert created(bench, {**job, "error": {}, "webAccessUris": {}})["name"] != job["name"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["sh", "-c", "true"], "found 'sh -c true'; this service starts nothing but Tuneline's steps"),
        ([], "this service starts nothing but Tuneline's steps"),
        (["/usr/bin/python", "-m", STEP], "starts nothing but"),
        (["python", "-c", "pass"], "starts nothing but"),
        (["python", "-mtuneline.steps.select_checkpoint"], "starts nothing but"),
        (["python", "-m", "tuneline.steps.select_checkpiont"], "Did you mean 'tuneline.steps.select_checkpoint'?"),
        (["python", "-m", "tuneline.steps"], "found the module 'tuneline.steps'"),
        (["python", "-m", "pip", "install", "x"], "found the module 'pip'"),
        ([*TORCHRUN, "-m", "http.server"], "found the module 'http.server'"),
        ([*TORCHRUN, "evil.py"], "found 'evil.py' after torch.distributed.run"),
        ([*TORCHRUN, "--no-python", "-m", STEP], "found '--no-python'"),
        ([*TORCHRUN, "--run-path", "x", "-m", STEP], "found '--run-path'"),
        ([*TORCHRUN, "--nnodes", "2"], "without -m tuneline.steps.NAME"),
        ([*TORCHRUN, "--nnodes"], "without -m tuneline.steps.NAME"),
        ([*TORCHRUN, "--rdzv_endpoint=example.org:1", "-m", STEP], "--rdzv-endpoint: found 'example.org:1'; expected an address of this machine"),
        ([*TORCHRUN, "--master-addr", "10.0.0.1", "-m", STEP], "--master-addr: found '10.0.0.1'"),
    ],
)
def test_nothing_but_a_step_of_ours_is_started(bench: Bench, words: list[str], told: str) -> None:
    code, status, message = error(bench.client.post(f"/v1/{bench.place}/customJobs", json=job_of(pool(words))))
    assert (code, status) == (400, "INVALID_ARGUMENT")
    assert message.startswith("jobSpec.workerPoolSpecs[0].containerSpec.command: ")
    assert told in message
    assert bench.get(f"{bench.place}/customJobs") == {"customJobs": []}


@pytest.mark.parametrize("name", ["PYTHONPATH", "LD_PRELOAD", "PATH", "PET_NO_PYTHON", "NCCL_NET_PLUGIN", "MASTER_ADDR", "CLUSTER_SPEC"])
def test_no_variable_changes_which_code_runs(bench: Bench, name: str) -> None:
    container = {"imageUri": "i", "command": ["python", "-m", STEP], "env": [{"name": name, "value": "x"}]}
    assert f"containerSpec.env: found {name!r}" in error(bench.client.post(f"/v1/{bench.place}/customJobs", json=job_of(pool([], containerSpec=container))))[2]


def test_everything_wrong_with_a_job_is_told_at_once(bench: Bench) -> None:
    bad = pool(["python", "-m", STEP, "{{$.x}}"], 2, machineSpec={"machineType": "a2-ultragpu-8g", "acceleratorCount": 1}, pythonPackageSpec={})
    spec = {
        "scheduling": {"timeout": "1h", "maxWaitDuration": "x"}, "baseOutputDirectory": {"outputUriPrefix": "/o"}, "network": "default",
        "serviceAccount": "me", "tensorboard": "projects/p/locations/us-west1/tensorboards/1",
    }  # fmt: skip
    other = pool([], 20, machineSpec={"machineType": "big"}, pythonPackageSpec={"executorImageUri": "i"})
    body = job_of(bad, other, name="", spec=spec, encryptionSpec={"kmsKeyName": KEY.format("europe-west4")}, labels={"Team": "a"})
    lines = error(bench.client.post(f"/v1/{bench.place}/customJobs", json=body))[2].splitlines()
    spec_lines = [line.removeprefix("jobSpec.").partition(": ")[0] for line in lines if line.startswith("jobSpec.")]
    assert [line for line in lines if not line.startswith("jobSpec.")] == [
        "displayName is missing.",
        "labels: found the key 'Team'; expected up to 63 lower-case letters, digits, '-' and '_', a letter first.",
        "encryptionSpec.kmsKeyName: found a key in 'europe-west4'; expected one in 'us-central1', where the job is.",
    ]  # fmt: skip
    first, second = "workerPoolSpecs[0].", "workerPoolSpecs[1]."
    assert spec_lines == [
        "baseOutputDirectory.outputUriPrefix", "scheduling.timeout", "scheduling.maxWaitDuration", "network", "serviceAccount", "tensorboard",
        f"{first}replicaCount", f"{first}machineSpec.acceleratorType, acceleratorCount", f"{first}containerSpec", f"{second}machineSpec.machineType",
        f"{second}pythonPackageSpec", "workerPoolSpecs",
    ]  # fmt: skip
    wrong_place = bench.client.post("/v1/projects/p/locations/mars/customJobs", json=job_of(pool(["python", "-m", STEP])))
    assert "location: found 'mars'" in error(wrong_place)[2]
    strategy = bench.client.post(f"/v1/{bench.place}/customJobs", json=job_of(spec={"scheduling": {"strategy": "SPOTTY"}}))
    assert "jobSpec.scheduling.strategy: expected one of STRATEGY_UNSPECIFIED, ON_DEMAND, LOW_COST, STANDARD, SPOT, FLEX_START." in error(strategy)[2]


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        (("e2-standard-16", "ACCELERATOR_TYPE_UNSPECIFIED", 0), ""),
        (("e2-standard-16", "NVIDIA_L4", 1), "found 1 x NVIDIA_L4; expected none with e2-standard-16."),
        (("n1-standard-8", "NVIDIA_TESLA_T4", 4), ""),
        (("n1-standard-8", "NVIDIA_TESLA_T4", 3), "expected NVIDIA_TESLA_K80 (1, 2, 4, 8);"),
        (("cloud-tpu", "TPU_V3", 64), ""),
        (("cloud-tpu", "TPU_V3", 63), "found 63 x TPU_V3"),
        (("cloud-tpu", "ACCELERATOR_TYPE_UNSPECIFIED", 0), "found no accelerator"),
        (("g2-standard-24", "NVIDIA_L4", 1), "found 1 x NVIDIA_L4; expected 2 x NVIDIA_L4, which g2-standard-24 has."),
        (("ct5lp-hightpu-4t", "ACCELERATOR_TYPE_UNSPECIFIED", 0), "tpuTopology: found ''"),
        (("local", "NVIDIA_L4", 1), "machineType: found 'local'"),
        *((machine, "") for machine in ((name, *has) for name, has in sorted(FIXED.items())[::7])),
    ],
)
def test_a_machine_has_the_accelerators_that_it_can_have(bench: Bench, machine: tuple[str, str, int], told: str) -> None:
    spec = dict(zip(("machineType", "acceleratorType", "acceleratorCount"), machine, strict=True))
    answer = bench.client.post(f"/v1/{bench.place}/customJobs", json=job_of(pool(["python", "-m", STEP], machineSpec=spec)))
    assert (answer.status_code, told in answer.text) == (400 if told else 200, True), answer.text


def test_jobs_are_found_by_label_and_name_and_paged(bench: Bench) -> None:
    for number in range(5):
        created(bench, job_of(pool(["python", "-m", STEP]), name=f"job {number}", labels={"odd": str(number % 2)}))
    url = f"/v1/{bench.place}/customJobs"

    def found(**query: object) -> list[str]:
        return [job["displayName"] for job in bench.client.get(url, params=query).json()["customJobs"]]

    assert found(filter='labels.odd="1"') == ["job 3", "job 1"]
    assert found(filter='display_name="job 2" AND state="JOB_STATE_QUEUED"') == ["job 2"]
    page = bench.client.get(url, params={"pageSize": 3}).json()
    rest = found(pageSize=3, pageToken=page["nextPageToken"])
    assert [job["displayName"] for job in page["customJobs"]] + rest == [f"job {number}" for number in (4, 3, 2, 1, 0)]
    assert bench.client.get(url, params={"filter": "image=x"}).status_code == 400


def test_every_replica_of_the_first_two_pools_gets_its_place(bench: Bench) -> None:
    server = pool(["reduce"], containerSpec={"imageUri": "reduction"})
    command = ["python", "-m", STEP]
    job = created(bench, job_of(pool(command), pool(command, 2), server, spec={"baseOutputDirectory": {"outputUriPrefix": "gs://b/o/"}}))
    executors = order_of(bench, job["name"])["deploymentSpec"]["executors"]
    assert list(executors) == ["workerpool0-0", "workerpool1-0", "workerpool1-1"]
    environments = [{item["name"]: item["value"] for item in executor["container"]["env"]} for executor in executors.values()]
    places = [json.loads(environment["CLUSTER_SPEC"]) for environment in environments]
    assert [(place["task"]["type"], place["task"]["index"]) for place in places] == [("workerpool0", 0), ("workerpool1", 0), ("workerpool1", 1)]
    assert [len(hosts) for hosts in places[0]["cluster"].values()] == [1, 2]
    assert (environments[1]["CLOUD_ML_REGION"], environments[1]["AIP_MODEL_DIR"]) == ("us-central1", "gs://b/o/model/")


def test_a_job_ends_as_its_process_does(running: Bench, tmp_path: Path) -> None:
    """Three jobs, one after the other: exit codes 0, 2 and 70."""
    missing = command_of(select_checkpoint, tmp_path)
    good, usage, bug = (created(running, job_of(pool(command)))["name"] for command in (deploying_nothing(tmp_path), missing[:3], missing))
    assert "error" not in ended(running, good)
    job = running.get(good)
    assert (job["state"], job["createTime"] <= job["startTime"] <= job["endTime"]) == ("JOB_STATE_SUCCEEDED", True)
    assert json.loads((tmp_path / "output_endpoint").read_text()) == {}
    failed = ended(running, usage)
    assert (failed["state"], failed["error"]["code"]) == ("JOB_STATE_FAILED", 3)
    assert "--resolved is missing." in failed["error"]["message"]
    assert ended(running, bug)["error"]["code"] == 13
    log = running.service.jobs.runs_dir / custom_jobs.run_of(usage) / "logs" / "workerpool0-0.log"
    assert "--resolved is missing." in log.read_text()
    assert running.client.delete(f"/v1/{good}").json()["done"] is True
    assert running.client.get(f"/v1/{good}").status_code == 404


@pytest.mark.parametrize(("exit_code", "code"), [(1, 3), (2, 3), (13, 14), (75, 10), (70, 13), (127, 13)])
def test_an_exit_code_becomes_a_status(exit_code: int, code: int) -> None:
    failure = Failure(code=exit_code, attribution="", step="workerpool0-0", cause="It broke.", next_action="Mend it.")
    record = RunRecord(name="r", pipeline="p", template="t", parameters={}, create_time="", state=RunState.FAILED, error=failure)
    body = progressed({"state": "JOB_STATE_RUNNING"}, Look(state=JobState.FAILED, record=record))
    assert body is not None
    assert body["error"] == {"code": code, "message": f"The replica workerpool0-0 exited with {exit_code}: It broke.\nMend it."}


def test_a_cancelled_job_gets_sigterm_and_the_next_one_its_turn(running: Bench, tmp_path: Path) -> None:
    name = created(running, job_of(pool(waiting_step(tmp_path / "pipe"))))["name"]
    queued = created(running, job_of(pool(["python", "-m", STEP])))["name"]
    with wait_for(lambda: reached(tmp_path / "pipe")) as pipe:
        wait_for(lambda: running.get(name)["state"] == "JOB_STATE_RUNNING")
        assert running.get(queued)["state"] == "JOB_STATE_QUEUED"
        assert error(running.client.delete(f"/v1/{name}"))[1] == "FAILED_PRECONDITION"
        assert running.client.post(f"/v1/{name}:cancel", json={}).json() == {}
        job = ended(running, name)
        assert (job["state"], job["error"]["code"]) == ("JOB_STATE_CANCELLED", 1)
        with pytest.raises(BrokenPipeError):
            pipe.write(b"is anybody there?")
    assert ended(running, queued)["state"] == "JOB_STATE_FAILED"
    assert running.client.post(f"/v1/{name}:cancel").status_code == 200
    assert running.get(name) == job


def test_a_job_outlives_the_service_and_is_not_run_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path))
    settings = Settings(home=tmp_path / "service", runs_dir=tmp_path / "runs")
    place = "projects/p/locations/us-central1"
    with open_service(settings) as service:
        first = Bench(service=service, client=TestClient(create_app(service), base_url="http://127.0.0.1"), place=place)
        name = created(first, job_of(pool(waiting_step(tmp_path / "pipe"))))["name"]
        pipe = wait_for(lambda: reached(tmp_path / "pipe"))
    with open_service(settings) as service:
        second = replace(first, service=service, client=TestClient(create_app(service), base_url="http://127.0.0.1"))
        service.custom_jobs.advance()
        assert second.get(name)["state"] == "JOB_STATE_RUNNING"
        with pipe:
            pipe.write(b"{}")  # the step goes on, and fails on what it has read
        assert ended(second, name)["state"] == "JOB_STATE_FAILED"
        record = service.jobs.record(custom_jobs.run_of(name))
        assert record is not None
        assert [task.attempts for task in record.tasks.values()] == [1]
