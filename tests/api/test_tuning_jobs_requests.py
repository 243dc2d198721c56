"""Requests for tuning jobs: every rule that the clients leave to the service, every spelling, and what the run gets."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.api.tuning_bench import GEMINI, HP, JOBS, LLAMA, OVERLAY, PARENT, SPEC, TRAIN, VALIDATION, make_data, order_of, pipeline_values, request_body
from tuneline.api.app import create_app
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.api.store import Body

KEY = "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"
HYPER = f"{SPEC}.hyperParameters"
SCOUT, GEMMA = "meta/llama4@llama-4-scout-17b-16e-instruct", "google/gemma3@gemma-3-1b-it"


@dataclass(frozen=True)
class Shared:
    """One service for all tests that only look at the answer to a request; it starts no process."""

    client: TestClient
    settings: Settings
    data: dict[str, str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    home = tmp_path_factory.mktemp("home")
    (home / "catalog.toml").write_text(OVERLAY, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELINE_HOME", str(home))
        settings = Settings(home=home / "service", runs_dir=home / "runs", catalog=str(home / "catalog.toml"))
        (settings.buckets / "b/taken/postprocess/node-0/checkpoints/final").mkdir(parents=True)
        with open_service(settings) as service:
            patch.setattr(service.runner, "_start", lambda _job_id: None)
            yield Shared(client=TestClient(create_app(service), base_url="http://127.0.0.1"), settings=settings, data=make_data(home))


REFUSED: list[tuple[Body, str]] = [
    # the model
    ({"baseModel": "meta/llama3@llama-3.1-8b"}, "baseModel: found 'meta/llama3@llama-3.1-8b', which is not in the model catalogue. Did you mean 'meta/"),
    ({"baseModel": "gemini-1.0-pro-001"}, "Did you mean 'gemini-1.0-pro-002'?"),
    ({"baseModel": None}, "baseModel: is missing"),
    ({"preTunedModel": {"tuned_model_name": f"{PARENT}/models/1@1"}}, "baseModel: found together with preTunedModel"),
    ({"baseModel": None, "preTunedModel": {"tuned_model_name": f"{PARENT}/models/1@1"}}, f"preTunedModel.tunedModelName: {PARENT}/models/1 does not exist"),
    ({"baseModel": None, "preTunedModel": {"tunedModelName": "latest"}}, "expected projects/PROJECT/locations/REGION/models/MODEL"),
    ({"baseModel": "google/gemma3@gemma-3-4b-it"}, "google/gemma3@gemma-3-4b-it is a Gemma3ForConditionalGeneration, which cannot be loaded here yet"),
    ({"baseModel": SCOUT}, f"baseModel: {SCOUT} is tuned with adapters only, and tuning with adapters is not built yet."),
    ({"customBaseModel": "@nothing"}, "customBaseModel: "),
    ({"customBaseModel": "owner/name"}, "customBaseModel: found 'owner/name'; expected a gs:// URI or an absolute path"),
    ({"customBaseModel": "@other"}, "found GPT2LMHeadModel; meta/llama3_1@llama-3.1-8b is a LlamaForCausalLM"),
    # adapters
    ({f"{SPEC}__tuningMode": "TUNING_MODE_PEFT_ADAPTER"}, f"{SPEC}.tuningMode: found TUNING_MODE_PEFT_ADAPTER; tuning with adapters is not built yet."),
    ({f"{SPEC}__tuning_mode": 2, f"{HP}__adapterSize": 4}, "tuning with adapters is not built yet. Leave it out, and all weights are tuned."),
    ({"baseModel": GEMMA, f"{SPEC}__tuningMode": 2}, f"{GEMMA} is tuned with TUNING_MODE_FULL only"),
    ({"baseModel": SCOUT, f"{SPEC}__tuningMode": 1}, f"found TUNING_MODE_FULL; {SCOUT} is tuned with TUNING_MODE_PEFT_ADAPTER only"),
    ({f"{SPEC}__tuningMode": 1, f"{HP}__adapterSize": "ADAPTER_SIZE_FOUR"}, "found ADAPTER_SIZE_FOUR with TUNING_MODE_FULL; only adapters have a size"),
    ({"baseModel": GEMINI, f"{HP}__adapter_size": 2}, f"{HYPER}.adapterSize: found ADAPTER_SIZE_FOUR; tuning with adapters is not built yet."),
    ({f"{HP}__adapterSize": "ADAPTER_SIZE_64"}, "expected one of ADAPTER_SIZE_UNSPECIFIED"),
    ({f"{SPEC}__tuningMode": "LORA"}, "expected one of TUNING_MODE_UNSPECIFIED"),
    # hyperparameters
    ({f"{HP}__learningRate": 1e-5, f"{HP}__learningRateMultiplier": 2}, "only one of the two can be set"),
    ({f"{HP}__learningRate": -1}, f"{HYPER}.learningRate: found -1.0; expected a number above 0"),
    ({f"{HP}__learningRateMultiplier": "Infinity"}, f"{HYPER}.learningRateMultiplier: found inf"),
    ({f"{HP}__batchSize": "0"}, f"{HYPER}.batchSize: found 0; expected 1 or more"),
    ({f"{HP}__epochCount": -3}, f"{HYPER}.epochCount: found -3; expected 1 or more"),
    ({f"{HP}__epochCount": "many"}, f"{HYPER}.epochCount"),
    ({f"{HP}__epochCount": True}, f"{HYPER}.epochCount: found true"),
    ({f"{HP}__epochCount": 2**62}, f"{HYPER}.epochCount: found {2**62}, which is"),
    ({f"{HP}__epochCount": 2**63}, f"{HYPER}.epochCount"),
    # data
    ({TRAIN: None}, f"{SPEC}.trainingDatasetUri: is missing"),
    ({TRAIN: "@nothing"}, f"{SPEC}.trainingDatasetUri: "),
    ({TRAIN: "@other"}, "is no file; expected a JSONL file"),
    ({TRAIN: "/dev/zero"}, "is no file; expected a JSONL file"),
    ({TRAIN: "gs://b/nothing.jsonl"}, f"{SPEC}.trainingDatasetUri: gs://b/nothing.jsonl: no such file"),
    ({TRAIN: "gs://b"}, f"{SPEC}.trainingDatasetUri: gs://b"),
    ({TRAIN: "gs://b/../../service.db"}, "leads out of the bucket"),
    ({TRAIN: "/proc/self/pagemap"}, f"{SPEC}.trainingDatasetUri: the file is empty"),
    ({TRAIN: "/proc/self/mem"}, f"{SPEC}.trainingDatasetUri: the file is empty"),
    ({TRAIN: "gs://.tuneline/records.sqlite"}, "no bucket's name begins with a dot"),
    ({TRAIN: "train.jsonl"}, "found 'train.jsonl'; expected a gs:// URI or an absolute path"),
    ({TRAIN: "https://example.com/x.jsonl"}, f"{SPEC}.trainingDatasetUri: https://example.com/x.jsonl: https:// is not read"),
    ({TRAIN: "projects/p/locations/l/datasets/1"}, "managed datasets are not available"),
    ({TRAIN: "@empty.jsonl"}, f"{SPEC}.trainingDatasetUri: the file is empty"),
    ({"baseModel": "code-bison@002", TRAIN: "@few"}, "9 examples; this base model expects at least 10 for train"),
    ({VALIDATION: "@nothing"}, f"{SPEC}.validationDatasetUri: "),
    ({VALIDATION: "@eight"}, f"{SPEC}.validationDatasetUri: 8 examples; expected at most 7, a quarter of the 30 training examples"),
    ({"baseModel": GEMINI, VALIDATION: "@many"}, f"{SPEC}.validationDatasetUri: 257 examples; this base model takes at most 256"),
    ({VALIDATION: "@train"}, f"{SPEC}.validationDatasetUri: found the training examples"),
    # the rest
    ({"tunedModelDisplayName": "x" * 129}, "tunedModelDisplayName: has 129 characters; expected at most 128"),
    ({"tunedModelDisplayName": "a\0b"}, "tunedModelDisplayName: holds a NUL"),
    ({"description": "\ud800"}, "body: not JSON"),
    ({"tunedModelDisplayName": "{{$.x}}"}, "tunedModelDisplayName contains '{{$.'"),
    ({"outputUri": "/tmp/a\0b"}, "which no file can be called"),
    ({"outputUri": "out"}, "outputUri: found 'out'; expected a gs:// URI or an absolute path"),
    ({"outputUri": "gs://nowhere/out"}, "outputUri: there is no bucket gs://nowhere"),
    ({"outputUri": "gs://b/taken/"}, "outputUri: gs://b/taken/postprocess/node-0/checkpoints/final holds another job's model"),
    ({"outputUri": "s3://b/out"}, "outputUri: s3://b: s3:// is not known"),
    ({"outputUri": "@taken"}, "holds another job's model"),
    ({"outputUri": "@train"}, "is no folder that can be written"),
    ({"labels": {"Team": "a"}}, "labels: found the key 'Team'"),
    ({"labels": {"team": "A b"}}, "labels: found the value 'A b' of 'team'"),
    ({"labels": {f"k{number}": "" for number in range(65)}}, "labels: found 65; expected at most 64"),
    ({"encryptionSpec": {"kmsKeyName": "k"}}, "encryptionSpec.kmsKeyName: found 'k'"),
    ({"encryptionSpec": {"kmsKeyName": KEY.replace("us-central1", "us-west1")}}, "found a key in 'us-west1'; expected one in 'us-central1'"),
    ({SPEC: None}, f"{SPEC}: is missing"),
    ({SPEC: None, "preferenceOptimizationSpec": {"hyperParameters": {"beta": 0.1}}}, "preferenceOptimizationSpec: this way of tuning is not available"),
    ({SPEC: None, "distillationSpec": {"baseTeacherModel": "x"}}, "distillationSpec: this way of tuning is not available"),
    ({f"{SPEC}__evaluationConfig": {"metrics": []}}, f"{SPEC}.evaluationConfig: answers are not judged"),
    ({f"{SPEC}__trainingDataSetUri": "x"}, "Did you mean 'trainingDatasetUri'?"),
    ({"source_model": GEMINI}, "unknown field 'source_model'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "told"), REFUSED, ids=[told[:60] for _, told in REFUSED])
def test_what_cannot_be_done_is_refused_by_name(shared: Shared, changes: Body, told: str) -> None:
    client = shared.client
    before = client.get(JOBS).json(), client.get(JOBS.replace("tuningJobs", "pipelineJobs")).json()
    answer = client.post(JOBS, content=json.dumps(request_body(shared.data, **changes)), headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.json()
    error = answer.json()["error"]
    assert told in error["message"]
    assert error["status"] == "INVALID_ARGUMENT"
    assert (client.get(JOBS).json(), client.get(JOBS.replace("tuningJobs", "pipelineJobs")).json()) == before


def test_all_problems_come_at_once_and_each_once(shared: Shared) -> None:
    changes = {
        TRAIN: "@nothing", VALIDATION: "@many", f"{HP}__batchSize": 0, f"{HP}__learningRate": 1, f"{HP}__learningRateMultiplier": 1,
        "outputUri": "@taken", "customBaseModel": "@other", "tunedModelDisplayName": "x" * 129, "labels": {"A": "b"},
        f"{SPEC}__tuningMode": "TUNING_MODE_PEFT_ADAPTER",
    }  # fmt: skip
    answer = shared.client.post(JOBS.replace("us-central1", "mars"), json=request_body(shared.data, **changes))
    lines = answer.json()["error"]["message"].splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "tunedModelDisplayName", "labels", f"{HYPER}.batchSize", f"{HYPER}.learningRate", f"{SPEC}.trainingDatasetUri", f"{SPEC}.tuningMode",
        "customBaseModel", "outputUri", "location",
    ]  # fmt: skip
    assert "expected one of us-central1" in lines[-1]


@pytest.mark.parametrize("text", ['{"baseModel": "x",}', '{"baseModel": "x', "[]", ""])
def test_a_body_that_is_no_json_object_is_refused(shared: Shared, text: str) -> None:
    answer = shared.client.post(JOBS, content=text, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert "body" in answer.json()["error"]["message"]


SAME_REQUESTS: list[Body] = [
    {"baseModel": LLAMA, SPEC: {"trainingDatasetUri": "@train", "hyperParameters": {"epochCount": "2", "batchSize": "4"}, "tuningMode": 1}},
    {"base_model": LLAMA, "supervised_tuning_spec": {
        "training_dataset_uri": "@train", "hyper_parameters": {"epoch_count": 2, "batch_size": 4.0}, "tuning_mode": "TUNING_MODE_FULL"}},
    {"baseModel": f"publishers/meta/models/{LLAMA.removeprefix('meta/')}", "description": None, "preTunedModel": None, SPEC: {
        "training_dataset_uri": "@train", "validationDatasetUri": None, "hyperParameters": {"epochCount": 2, "batch_size": "4", "adapterSize": 0}}},
]  # fmt: skip


@pytest.mark.parametrize("body", SAME_REQUESTS, ids=["camel case, numbers", "snake case, names", "mixed, nulls, resource name"])
@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_every_spelling_of_a_request_is_the_same_job(shared: Shared, body: Body, version: str) -> None:
    client, data = shared.client, shared.data
    content = json.loads(json.dumps(body).replace('"@train"', json.dumps(data["train"])))
    job = client.post(JOBS.replace("v1beta1", version), json=content).json()
    assert re.fullmatch(rf"{PARENT}/tuningJobs/\d{{19}}", job["name"])
    assert job["state"] == "JOB_STATE_QUEUED"
    assert re.fullmatch(r"tuned-model-[0-9a-f]{8}", job["tunedModelDisplayName"])
    given = job[SPEC]
    assert (given["trainingDatasetUri"], given["hyperParameters"]["epochCount"], given["hyperParameters"]["batchSize"]) == (data["train"], "2", "4")
    for path in (JOBS, JOBS.replace("v1beta1", "v1")):
        assert client.get(f"{path}/{job['name'].rpartition('/')[2]}").json() == job
    order = order_of(shared.settings, job)
    wanted = {"train_steps": 15, "batch_size": 4, "evaluation_interval": 8, "large_model_reference": LLAMA, "project": "proj", "location": "us-central1"}
    assert {key: order["parameters"][key] for key in wanted} == wanted


def test_all_that_is_asked_for_reaches_the_run_or_is_recorded(shared: Shared) -> None:
    client, settings, data = shared.client, shared.settings, shared.data
    asked: dict[str, Any] = {
        "customBaseModel": "@base", "outputUri": "@out", "labels": {"mg-source": "sdk", "tune-type": "mine"}, "description": "why", "serviceAccount": "me@p",
        "encryptionSpec": {"kmsKeyName": KEY}, "tunedModelDisplayName": "Übung №1", VALIDATION: "@validation", f"{HP}__learningRate": 2e-5,
        f"{SPEC}__exportLastCheckpointOnly": True, "state": "JOB_STATE_FAILED", "name": "mine", "error": {"code": 1},
    }  # fmt: skip
    job = client.post(JOBS, json=request_body(data, **asked)).json()
    assert {key: job[key] for key in ("description", "serviceAccount", "labels", "outputUri", "customBaseModel", "tunedModelDisplayName")} == {
        "description": "why", "serviceAccount": "me@p", "labels": asked["labels"], "outputUri": data["out"], "customBaseModel": data["base"],
        "tunedModelDisplayName": "Übung №1",
    }  # fmt: skip
    assert (job["encryptionSpec"], job["state"], "error" in job) == ({"kmsKeyName": KEY}, "JOB_STATE_QUEUED", False)
    assert job[SPEC]["hyperParameters"] == {"epochCount": "3", "batchSize": "8", "learningRate": 2e-5}
    order = order_of(settings, job)
    parameters = order["parameters"]
    expected = {
        "base_model_uri": data["base"], "evaluation_data_uri": data["validation"], "learning_rate": 2e-5, "learning_rate_multiplier": 1, "train_steps": 12,
        "evaluation_interval": 4, "enable_early_stopping": False, "enable_checkpoint_selection": "false", "overlength_policy": "truncate",
        "model_display_name": "Übung №1", "deploy_model": False, "encryption_spec_key_name": "", "catalog_uri": settings.catalog,
    }  # fmt: skip
    assert {key: parameters[key] for key in expected} == expected
    assert (order["output_uri"], order["only_last_checkpoint"]) == (data["out"], True)
    job_id = job["name"].rpartition("/")[2]
    assert json.loads(order["environment"]["VERTEX_AI_PIPELINES_RUN_LABELS"]) == asked["labels"] | {"google-vertex-llm-tuning-job-id": job_id}
    pipeline = client.get(f"/v1/{job['pipelineJob']}").json()
    assert (pipeline["serviceAccount"], pipeline["labels"], pipeline["displayName"]) == ("me@p", asked["labels"], "Übung №1")


@pytest.mark.parametrize(
    ("base", "row", "template", "deployed"),
    [
        (GEMINI, {"contents": []}, "tune-large-chat-model", True),
        (LLAMA, {"messages": [{"role": "user", "content": "q"}]}, "tune-large-chat-model", False),
        (LLAMA, {"prompt": "q", "completion": "a"}, "tune-large-model", False),
        (LLAMA, {"nothing": "known"}, "tune-large-model", False),
        ("code-bison@002", {"messages": [{"author": "user", "content": "q"}]}, "tune-large-model", True),
        ("chat-bison@002", {"input_text": "q", "output_text": "a"}, "tune-large-chat-model", True),
    ],
)  # fmt: skip
def test_the_template_follows_model_and_data_and_hosted_models_are_deployed(
    shared: Shared, tmp_path: Path, base: str, row: Body, template: str, deployed: bool
) -> None:  # fmt: skip
    file = tmp_path / "train.jsonl"
    file.write_text((json.dumps(row) + "\n") * 10)
    job = shared.client.post(JOBS, json=request_body({"train": str(file)}, base)).json()
    assert shared.client.get(f"/v1/{job['pipelineJob']}").json()["templateUri"] == template
    assert order_of(shared.settings, job)["parameters"]["deploy_model"] is deployed


def test_open_models_are_tuned_in_their_own_regions_too(shared: Shared) -> None:
    job = shared.client.post(JOBS.replace("us-central1", "us-east5"), json=request_body(shared.data)).json()
    assert "error" not in job, job
    assert "/locations/us-east5/" in job["name"]
    assert Path(order_of(shared.settings, job)["parameters"]["catalog_uri"]).is_file()
    pipelines = JOBS.replace("us-central1", "us-east5").replace("tuningJobs", "pipelineJobs")
    refused = shared.client.post(pipelines, json={"templateUri": "tune-large-model", "runtimeConfig": {"parameterValues": pipeline_values(shared.data)}})
    assert "pipeline region: found 'us-east5'" in refused.json()["error"]["message"]


def test_a_model_that_was_uploaded_is_tuned_as_a_custom_one(shared: Shared) -> None:
    client, data = shared.client, shared.data
    upload = {"model": {"displayName": "mine"}, "modelId": "mine"}
    client.post(f"/v1/{PARENT}/models:upload", json=upload)
    answer = client.post(JOBS, json=request_body(data, baseModel=None, preTunedModel={"tunedModelName": f"{PARENT}/models/mine"}))
    assert "was uploaded, not tuned. Give its base model as baseModel and its folder as customBaseModel." in answer.json()["error"]["message"]


NOT_REBASED: list[tuple[Body, int, str]] = [
    ({}, 400, "tunedModelRef: found 0 names"),
    ({"tunedModelRef": {"tuningJob": "a", "tuned_model": "b"}}, 400, "tunedModelRef: found 2 names"),
    ({"tunedModelRef": {"tuningJob": f"{PARENT}/pipelineJobs/1"}}, 400, "expected projects/PROJECT/locations/REGION/tuningJobs/ID"),
    ({"tunedModelRef": {"tuningJob": f"{PARENT}/tuningJobs/1"}}, 404, "does not exist"),
    ({"tunedModelRef": {"tunedModel": "m"}}, 400, "tunedModelRef.tunedModel: found 'm'"),
    ({"tunedModelRef": {"tunedModel": f"{PARENT}/models/1"}}, 404, "models/1 does not exist"),
    ({"tunedModelRef": {"tuningJob": "x"}, "deployToSameEndpoint": True}, 400, "deployToSameEndpoint: found true"),
]


@pytest.mark.parametrize(("body", "code", "told"), NOT_REBASED, ids=[told for *_, told in NOT_REBASED])
def test_what_cannot_be_rebased_is_refused(shared: Shared, body: Body, code: int, told: str) -> None:
    answer = shared.client.post(f"{JOBS}:rebaseTunedModel", json=body)
    assert answer.status_code == code
    assert told in answer.json()["error"]["message"]
