"""A service that has one of every resource, and for every operation a request that suits it. No job's process runs; servers are fake ones."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.api.endpoint_bench import Bench, model_folder, opened, start_fake_servers
from tests.api.tuning_bench import make_data
from tuneline.api.jobs import Runner
from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.templates import HOSTED_PREFIX

PLACE = "projects/p/locations/us-central1"
RUN = f"{PLACE}/tensorboards/T/experiments/x/runs/r"
NAMES = {
    "project": "p", "location": "us-central1", "job_id": "job", "schedule_id": "S", "tensorboard": "T", "experiment": "x", "run": "r", "series": "s",
    "model_id": "m", "endpoint_id": "e", "publisher": "google", "model": "served", "route": "predict", "resource": "models/m", "operation_id": "O",
    "evaluation_id": "V",
}  # fmt: skip
"""Of what the service has, by path parameter. Capitals stand for names that the service gives."""
GONE = "gone"
"""Name of something that the service does not have: what is deleted in vain can be asked for again."""
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "systemInstruction": {"parts": [{"text": "Be short."}]}}
PREDICT = {"instances": [{"content": "hi"}], "parameters": {"temperature": 0.5, "maxOutputTokens": 3}}
CHAT = {"model": "served", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 3, "stream": True}
LABELS = {"labels": {"team": "a"}}
POINT = {"wallTime": "2026-11-24T00:00:00Z", "step": "1", "scalar": {"value": 1.5}}
WRITE = {"tensorboardRun": RUN, "timeSeriesData": [{"tensorboardTimeSeriesId": "s", "valueType": "SCALAR", "values": [POINT, {**POINT, "step": 2}]}]}
SERIES = {"displayName": "loss", "valueType": "SCALAR", "pluginName": "scalars", "metadata": {"a": 1}}
DATA = "/data/"
"""Stands for the folder of data files."""
JOB = {
    "displayName": "a job",
    "templateUri": f"{HOSTED_PREFIX}tune-large-model/v3.0.0",
    **LABELS,
    "encryptionSpec": {},
    "runtimeConfig": {
        "gcsOutputDirectory": "gs://b/o",
        "parameterValues": {
            "project": "p", "model_display_name": "m", "dataset_uri": f"{DATA}train.jsonl", "large_model_reference": "code-bison@002", "train_steps": 2,
            "learning_rate_multiplier": "1.5", "batch_size": "4", "deploy_model": "true",
        },
    },
}  # fmt: skip
SCHEDULE = {
    "displayName": "a schedule", "cron": "TZ=Europe/Berlin 0 3 * * 1", "maxConcurrentRunCount": "1", "maxRunCount": 3, "allowQueueing": True,
    "startTime": "2040-01-01T00:00:00Z", "endTime": "2041-01-01T00:00:00Z", "createPipelineJobRequest": {"parent": PLACE, "pipelineJob": JOB},
}  # fmt: skip
HYPER = {"epochCount": "1", "learningRateMultiplier": 1.5, "batchSize": 4}
TUNING = {
    "baseModel": "code-bison@002", "tunedModelDisplayName": "t", "outputUri": f"{DATA}out", **LABELS,
    "supervisedTuningSpec": {"trainingDatasetUri": f"{DATA}train.jsonl", "hyperParameters": HYPER},
}  # fmt: skip
MODEL = {
    "displayName": "m", "artifactUri": f"{DATA}model", "versionAliases": ["first"], "containerSpec": {"imageUri": "i", "env": [{"name": "A", "value": "B"}]},
    **LABELS,
}  # fmt: skip
ENDPOINT = {"displayName": "e", "description": "d", **LABELS, "encryptionSpec": {"kmsKeyName": "k"}}
RESOURCES = {"machineSpec": {"machineType": "n1", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}, "minReplicaCount": 1}
DEPLOY = {"deployedModel": {"model": f"{PLACE}/models/m", "displayName": "served", "dedicatedResources": RESOURCES}, "trafficSplit": {"0": 100}}
GENERATION = {"temperature": 0.2, "topK": 3, "topP": 0.5, "candidateCount": 1, "maxOutputTokens": 5, "stopSequences": ["a"], "seed": 3}
STREAMING = {
    "inputs": [{"structVal": {"content": {"stringVal": ["hi"]}}}],
    "parameters": {"structVal": {"temperature": {"doubleVal": [0.2]}, "maxOutputTokens": {"intVal": [3]}}},
}
CUSTOM_JOB = {
    "displayName": "a custom job", **LABELS,
    "jobSpec": {
        "workerPoolSpecs": [{
            "machineSpec": {"machineType": "a2-ultragpu-1g", "acceleratorType": "NVIDIA_A100_80GB", "acceleratorCount": 1}, "replicaCount": "1",
            "containerSpec": {"imageUri": "i", "command": ["python", "-m", "tuneline.steps.deploy_model"], "args": ["--resolved", "r"]},
        }],
        "scheduling": {"strategy": "SPOT", "timeout": "3600s"},
    },
}  # fmt: skip
EVALUATION = {"displayName": "v", "metricsSchemaUri": "gs://google-cloud-aiplatform/schema/modelevaluation/x.yaml", "metrics": {"rougeLSum": 0.5}}
BODIES: dict[str, Any] = {
    "create_custom_job": CUSTOM_JOB, "import_model_evaluation": {"modelEvaluation": EVALUATION},
    "copy_model": {"sourceModel": f"{PLACE}/models/m", "encryptionSpec": {}},
    "create_pipeline_job": JOB, "create_schedule": SCHEDULE, "update_schedule": SCHEDULE, "resume_schedule": {"catchUp": True},
    "create_tuning_job": TUNING, "rebase_tuned_model": {"tunedModelRef": {"tuningJob": f"{PLACE}/tuningJobs/J"}, "tuningJob": {"description": "again"}},
    "upload_model": {"model": MODEL, "serviceAccount": "s"}, "update_model": {"displayName": "m", "versionDescription": "v", **LABELS},
    "merge_version_aliases": {"versionAliases": ["other", "-first"]},
    "create_endpoint": ENDPOINT, "update_endpoint": ENDPOINT,
    # Neither starts nor stops a server.
    "deploy_model": {**DEPLOY, "deployedModel": {**DEPLOY["deployedModel"], "model": f"{PLACE}/models/{GONE}", "id": "5"}},
    "undeploy_model": {"deployedModelId": "5", "trafficSplit": {"6": 100}},
    "predict": PREDICT, "raw_predict": PREDICT, "stream_raw_predict": PREDICT, "invoke": PREDICT, "server_streaming_predict": STREAMING,
    "generate_content": {**CONTENTS, "generationConfig": GENERATION}, "stream_generate_content": {**CONTENTS, **LABELS},
    "count_tokens": CONTENTS, "compute_tokens": {"instances": [{"prefix": "def f("}]},
    "endpoint_chat_completions": CHAT, "endpoint_completions": CHAT, "chat_completions": CHAT, "completions": CHAT,
    "deploy_custom_model": {
        "customModel": {"gcsUri": f"{DATA}other"}, "modelConfig": {"modelDisplayName": "x"}, "endpointConfig": {"endpointDisplayName": "y"},
        "deployConfig": {"dedicatedResources": RESOURCES},
    },
    "recommend_spec": {"gcsUri": f"{DATA}model"},
    **{f"{verb}_tensorboard{level}": {"displayName": "t", **LABELS} for verb in ("create", "update") for level in ("", "_experiment", "_run")},
    "create_tensorboard_time_series": SERIES, "update_tensorboard_time_series": SERIES,
    "write_tensorboard_run": WRITE, "write_tensorboard_experiment": {"writeRunDataRequests": [WRITE]},
    "batch_create_tensorboard_runs": {"requests": [{"tensorboardRun": {"displayName": "q"}}]},
    "batch_create_tensorboard_time_series": {"requests": [{"parent": RUN, "tensorboardTimeSeries": SERIES}]},
}  # fmt: skip
QUERIES = {
    "update_schedule": {"updateMask": "maxRunCount"},
    "batch_read_tensorboard_time_series": {"timeSeries": [f"{RUN}/timeSeries/s"]},
    "get_model": {"alt": "json"},
}


@dataclass(frozen=True, kw_only=True)
class Everything:
    """The service, and the names that it gave."""

    bench: Bench
    given: dict[str, str]
    """By the capital that stands for them, and the data folder."""

    def names(self, operation: str) -> dict[str, str]:
        """Values for path parameters."""
        own = dict(NAMES)
        if "tuning_job" in operation:
            own["job_id"] = "J"
        if "custom_job" in operation:
            own["job_id"] = "C"
        if "publisher_model" in operation:
            own["model_id"] = "code-bison@002"
        if "_delete_" in operation:
            own |= dict.fromkeys(("job_id", "schedule_id", "endpoint_id", "model_id", "tensorboard", "experiment", "run", "series"), GONE)
        return {key: self.given.get(value, value) for key, value in own.items()}

    def body(self, operation: str) -> Any:
        """A body that suits the operation; None where it has none."""
        name = operation.partition("_")[2]
        return self.filled(BODIES.get(name) or BODIES.get(re.sub(r"_(endpoint|publisher_model)$", "", name)))

    def query(self, operation: str) -> dict[str, Any]:
        """Query parameters that suit it."""
        return dict(self.filled(QUERIES.get(operation.partition("_")[2], {})))

    def given_name(self, name: str) -> str:
        """A resource name with the given names in it."""
        return str(self.filled(name))

    def filled(self, value: Any) -> Any:
        """The value with the given names in the place of what stands for them."""
        match value:
            case str():
                text = re.sub(r"(?<=/)[A-Z](?=/|$)", lambda found: self.given[found[0]], value)
                return text.replace(DATA, self.given[DATA])
            case dict():
                return {key: self.filled(item) for key, item in value.items()}
            case list():
                return [self.filled(item) for item in value]
        return value


@contextlib.contextmanager
def everything(home: Path) -> Iterator[Everything]:
    """The service, over a folder."""
    with pytest.MonkeyPatch.context() as patch, opened(home) as bench:
        patch.setattr(Runner, "_start", lambda _self, _job_id: None)
        start_fake_servers(patch)
        data = home / "data"
        data.mkdir()
        make_data(data)
        model_folder(data / "model")
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            shutil.copy(EMBEDDED_MODELS / "tiny-code-001" / name, data / "model")
        made = Everything(bench=replace(bench, place=PLACE), given={DATA: f"{data}/"})
        _fill(made)
        yield made


def _fill(made: Everything) -> None:
    """Make one of everything."""
    bench = made.bench

    def create(path: str, operation: str, **query: str) -> dict[str, Any]:
        answer = bench.client.post(f"/v1/{PLACE}/{path}", json=made.body(f"v1_{operation}"), params=query)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    create("pipelineJobs", "create_pipeline_job", pipelineJobId="job")
    made.given["S"] = _id(create("schedules", "create_schedule")["name"])
    made.given["J"] = _id(create("tuningJobs", "create_tuning_job")["name"])
    made.given["T"] = _id(create("tensorboards", "create_tensorboard")["response"]["name"])
    board = f"tensorboards/{made.given['T']}/experiments"
    create(board, "create_tensorboard_experiment", tensorboardExperimentId="x")
    create(f"{board}/x/runs", "create_tensorboard_run", tensorboardRunId="r")
    create(f"{board}/x/runs/r/timeSeries", "create_tensorboard_time_series", tensorboardTimeSeriesId="s")
    upload = bench.client.post(f"/v1/{PLACE}/models:upload", json={**made.body("v1_upload_model"), "modelId": "m"}).json()
    bench.ended(upload)
    made.given["O"] = _id(upload["name"])
    made.given["C"] = _id(create("customJobs", "create_custom_job")["name"])
    made.given["V"] = _id(create("models/m/evaluations:import", "import_model_evaluation")["name"])
    create("endpoints", "create_endpoint", endpointId="e")
    bench.done(f"/v1/{PLACE}/endpoints/e:deployModel", DEPLOY)


def _id(name: str) -> str:
    return name.rpartition("/")[2]
