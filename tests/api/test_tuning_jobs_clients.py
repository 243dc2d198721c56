"""Google's own clients against the service: the snippets of the documentation, apart from the lines that say where the service is.

One small job is really run, on the embedded model, which stands in for Llama 3.1. Of all others only the request and the answers count.
"""

import json
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import vertexai
from google import genai
from google.api_core.exceptions import BadRequest, NotFound
from google.auth.credentials import AnonymousCredentials
from google.cloud import aiplatform
from google.genai import types
from google.oauth2.credentials import Credentials
from vertexai.preview import tuning as preview_tuning
from vertexai.preview.tuning import sft as preview_sft
from vertexai.tuning import SourceModel, sft

from tests.api.conftest import TRAINING_DATA
from tests.api.tuning_bench import GEMINI, LLAMA, OVERLAY, wait_for
from tuneline.api.app import create_app
from tuneline.api.jobs import CANCEL, Runner
from tuneline.api.server import open_service
from tuneline.api.settings import Settings
from tuneline.data.base_model import EMBEDDED_MODELS
from tuneline.modeling.checkpoints import verify

PROJECT, LOCATION = "proj", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
MODEL_NAME = rf"{PARENT}/models/\d+@1"
pytestmark = pytest.mark.filterwarnings("ignore")


@dataclass(frozen=True)
class Server:
    """The service, as a client finds it."""

    url: str
    bucket: Path
    """What `gs://my-bucket` means."""
    may_run: list[str]
    """Runs that are really started; a cancelled one always is, to end."""

    @property
    def training(self) -> str:
        return "gs://my-bucket/train.jsonl"

    @property
    def validation(self) -> str:
        return "gs://my-bucket/validation.jsonl"

    def request_of(self, name: str) -> dict[str, Any]:
        """The job as it is answered."""
        body: dict[str, Any] = httpx.get(f"{self.url}/v1/{name}").raise_for_status().json()
        return body


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("home")
    settings = Settings(home=folder / "service", runs_dir=folder / "runs", catalog=str(folder / "catalog.toml"), max_running=100)
    bucket = settings.buckets / "my-bucket"
    bucket.mkdir(parents=True)
    (folder / "catalog.toml").write_text(OVERLAY, encoding="utf-8")
    lines = TRAINING_DATA.read_text(encoding="utf-8").splitlines(keepends=True)
    (bucket / "train.jsonl").write_text("".join(lines[:12]), encoding="utf-8")
    (bucket / "validation.jsonl").write_text("".join(lines[12:14]), encoding="utf-8")
    may_run: list[str] = []
    start = Runner._start

    def start_some(runner: Runner, job_id: str) -> None:
        if job_id in may_run or (runner.jobs.of(job_id) / CANCEL).exists():
            start(runner, job_id)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNELINE_HOME", str(folder))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setattr(Runner, "_start", start_some)
        with open_service(settings) as service:
            listener = uvicorn.Server(uvicorn.Config(create_app(service), host="127.0.0.1", port=0, log_config=None))
            thread = threading.Thread(target=listener.run, daemon=True)
            thread.start()
            wait_for(lambda: listener.started)
            port = listener.servers[0].sockets[0].getsockname()[1]
            yield Server(url=f"http://127.0.0.1:{port}", bucket=bucket, may_run=may_run)
            listener.should_exit = True
            thread.join()


@pytest.fixture(autouse=True)
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that says where the service is; and polling that does not take minutes."""
    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.2)))
    vertexai.init(project=PROJECT, location=LOCATION, api_endpoint=server.url, api_transport="rest", credentials=AnonymousCredentials())


@pytest.fixture
def client(server: Server) -> genai.Client:
    return genai.Client(
        vertexai=True, project=PROJECT, location=LOCATION, credentials=Credentials(token="local"), http_options=types.HttpOptions(base_url=server.url)
    )


@pytest.fixture(scope="module")
def tuned(server: Server) -> sft.SupervisedTuningJob:
    """The snippet for open models, to its end: the one job that is really run."""
    vertexai.init(project=PROJECT, location=LOCATION, api_endpoint=server.url, api_transport="rest", credentials=AnonymousCredentials())
    sft_tuning_job = sft.train(
        source_model=SourceModel(
            base_model="meta/llama3_1@llama-3.1-8b",
            # Optional, folder that is either a custom model checkpoint or previously tuned model
            custom_base_model=str(EMBEDDED_MODELS / "tiny-code-001"),
        ),
        tuning_mode="FULL",  # FULL or PEFT_ADAPTER
        epochs=3,
        train_dataset=server.training,  # JSONL file
        validation_dataset=server.validation,  # JSONL file
        output_uri="gs://my-bucket/out",
    )
    assert not sft_tuning_job.has_ended
    server.may_run.append(f"tuning-job-{sft_tuning_job.name}")
    deadline = time.monotonic() + 600
    while not sft_tuning_job.has_ended:
        assert time.monotonic() < deadline
        time.sleep(0.5)
        sft_tuning_job.refresh()
    return sft_tuning_job


def test_an_open_model_is_tuned_to_the_end(server: Server, tuned: sft.SupervisedTuningJob) -> None:
    assert tuned.has_succeeded, tuned.error
    assert re.fullmatch(MODEL_NAME, tuned.tuned_model_name)
    assert not tuned.tuned_model_endpoint_name  # an open model is deployed by `CustomModel(...).deploy`
    assert tuned.experiment is None
    statistics = tuned.tuning_data_statistics.supervised_tuning_data_stats
    assert (statistics.tuning_dataset_example_count, statistics.tuning_step_count) == (12, 5)
    assert statistics.user_input_token_distribution.sum + statistics.user_output_token_distribution.sum == statistics.total_billable_token_count > 0
    assert sum(bucket.count for bucket in statistics.user_output_token_distribution.buckets) == 12
    assert statistics.user_dataset_examples[0].parts[0].text.startswith("Write the function")
    resource = tuned.gca_resource
    assert resource.create_time <= resource.start_time <= resource.end_time
    assert resource.labels == {"mg-source": "sdk"}


def test_the_checkpoints_lie_where_vertex_leaves_them(server: Server, tuned: sft.SupervisedTuningJob) -> None:
    folder = server.bucket / "out/postprocess/node-0/checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint-2", "checkpoint-4", "checkpoint-5", "final"]
    for path in folder.iterdir():
        verify(path)
    told = [(checkpoint.checkpoint_id, checkpoint.epoch, checkpoint.step) for checkpoint in tuned.gca_resource.tuned_model.checkpoints]
    assert told == [("1", 1, 2), ("2", 2, 4), ("3", 3, 5)]


def test_the_model_is_registered_in_the_jobs_region_with_the_labels_that_clients_look_for(client: genai.Client, tuned: sft.SupervisedTuningJob) -> None:
    labels = aiplatform.Model(tuned.tuned_model_name).labels
    wanted = {"google-vertex-llm-tuning-base-model-id": "meta-llama3_1-llama-3-1-8b", "tune-type": "sft", "mg-source": "sdk"}
    assert {key: labels[key] for key in wanted} == wanted
    assert labels["google-vertex-llm-tuning-job-id"] == tuned.name
    assert tuned.tuned_model_name.partition("@")[0] in [(model.name or "").partition("@")[0] for model in client.models.list(config={"query_base": False})]


def test_jobs_are_listed_and_loaded(tuned: sft.SupervisedTuningJob) -> None:
    responses = sft.SupervisedTuningJob.list()
    assert tuned.resource_name in [response.resource_name for response in responses]
    found = sft.SupervisedTuningJob.list(filter='state="JOB_STATE_SUCCEEDED"')
    assert [response.resource_name for response in found] == [tuned.resource_name]
    response = sft.SupervisedTuningJob(f"{PARENT}/tuningJobs/{tuned.name}")
    assert (response.state, response.tuned_model_name) == (tuned.state, tuned.tuned_model_name)
    with pytest.raises(NotFound):
        sft.SupervisedTuningJob(f"{PARENT}/tuningJobs/4982013113894174720")


def test_a_gemini_is_tuned_with_two_fields_given_and_cancelled(server: Server) -> None:
    sft_tuning_job = preview_sft.train(source_model="gemini-1.0-pro-002", train_dataset=server.training)
    assert server.request_of(sft_tuning_job.resource_name)["baseModel"] == GEMINI
    job = sft.SupervisedTuningJob(sft_tuning_job.resource_name)
    job.cancel()
    # Polling for job completion
    while not sft_tuning_job.has_ended:
        time.sleep(60)
        sft_tuning_job.refresh()
    assert not sft_tuning_job.has_succeeded
    assert sft_tuning_job.state.name == "JOB_STATE_CANCELLED"
    assert sft_tuning_job.error.code == 1


def test_the_advanced_gemini_snippet_is_told_why_it_has_to_wait(server: Server) -> None:
    given: dict[str, Any] = {
        "source_model": "gemini-1.0-pro-002",
        "train_dataset": server.training,
        # The following parameters are optional
        "validation_dataset": server.validation,
        "epochs": 4,
        "adapter_size": 4,
        "learning_rate_multiplier": 1.0,
        "tuned_model_display_name": "tuned_gemini_pro",
    }
    with pytest.raises(BadRequest, match="adapterSize: found ADAPTER_SIZE_FOUR; tuning with adapters is not built yet"):
        preview_sft.train(**given)
    del given["adapter_size"]
    job = server.request_of(preview_sft.train(**given).resource_name)
    assert job["tunedModelDisplayName"] == "tuned_gemini_pro"
    assert job["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": "4", "batchSize": "8", "learningRateMultiplier": 1.0}


def test_adapters_of_an_open_model_are_refused_by_name(server: Server) -> None:
    with pytest.raises(BadRequest, match="tuningMode: found TUNING_MODE_PEFT_ADAPTER; tuning with adapters is not built yet"):
        sft.train(source_model=LLAMA, tuning_mode="PEFT_ADAPTER", adapter_size=16, train_dataset=server.training, output_uri="gs://my-bucket/new")


def test_the_preview_snippet_for_open_models_is_understood(server: Server) -> None:
    sft_tuning_job = preview_sft.preview_train(
        source_model=preview_tuning.SourceModel(base_model="meta/llama3_1@llama-3.1-8b"),
        tuning_mode="FULL",
        epochs=3,
        train_dataset=server.training,
        output_uri="gs://my-bucket/preview",
    )
    job = server.request_of(sft_tuning_job.resource_name)
    assert (job["outputUri"], job["supervisedTuningSpec"]["tuningMode"]) == ("gs://my-bucket/preview", "TUNING_MODE_FULL")


def test_a_tuned_model_is_rebased(server: Server, tuned: sft.SupervisedTuningJob) -> None:
    for number, name in enumerate((tuned.resource_name, tuned.tuned_model_name, tuned.gca_resource.pipeline_job)):
        job = preview_sft.rebase_tuned_model(name, artifact_destination=f"gs://my-bucket/rebased-{number}")
        assert job.resource_name != tuned.resource_name
        body = server.request_of(job.resource_name)
        assert (body["baseModel"], body["outputUri"]) == (LLAMA, f"gs://my-bucket/rebased-{number}")


def test_the_new_client_creates_gets_lists_and_cancels(server: Server, client: genai.Client) -> None:
    job = client.tunings.tune(
        base_model=LLAMA,
        training_dataset=types.TuningDataset(gcs_uri=server.training),
        config=types.CreateTuningJobConfig(
            tuned_model_display_name="x", description="why", epoch_count=3, batch_size=4, learning_rate=1e-5, export_last_checkpoint_only=True,
            tuning_mode=types.TuningMode.TUNING_MODE_FULL, validation_dataset=types.TuningValidationDataset(gcs_uri=server.validation),
            custom_base_model=str(EMBEDDED_MODELS / "tiny-code-001"), labels={"team": "a"}, output_uri="gs://my-bucket/genai",
        ),
    )  # fmt: skip
    assert (job.state, job.description, job.base_model) == (types.JobState.JOB_STATE_QUEUED, "why", LLAMA)
    asked = server.request_of(job.name)["supervisedTuningSpec"]
    assert asked["hyperParameters"] == {"epochCount": "3", "batchSize": "4", "learningRate": 1e-5}
    assert client.tunings.get(name=job.name).state == job.state
    client.tunings.cancel(name=job.name)
    wait_for(lambda: client.tunings.get(name=job.name).has_ended)
    ended = client.tunings.get(name=job.name)
    assert (ended.state, ended.has_succeeded, ended.error.code) == (types.JobState.JOB_STATE_CANCELLED, False, 1)
    pages = client.tunings.list(config={"page_size": 2})
    names = [found.name for found in pages]
    assert job.name in names
    assert len(names) == len(set(names)) > 2


def test_the_new_client_reads_a_finished_job_and_tunes_it_further(server: Server, client: genai.Client, tuned: sft.SupervisedTuningJob) -> None:
    found = client.tunings.get(name=tuned.resource_name)
    assert found.has_succeeded
    assert (found.tuned_model.model, [checkpoint.step for checkpoint in found.tuned_model.checkpoints]) == (tuned.tuned_model_name, [2, 4, 5])
    config = types.CreateTuningJobConfig(epoch_count=1, pre_tuned_model_checkpoint_id="2")
    job = client.tunings.tune(base_model=tuned.tuned_model_name, training_dataset=types.TuningDataset(gcs_uri=server.training), config=config)
    assert (job.pre_tuned_model.tuned_model_name, job.pre_tuned_model.checkpoint_id, job.pre_tuned_model.base_model) == (tuned.tuned_model_name, "2", LLAMA)
    pipeline = server.request_of(server.request_of(job.name)["pipelineJob"])
    folder = Path(pipeline["runtimeConfig"]["parameterValues"]["base_model_uri"])
    assert folder.name == "checkpoint-4"
    verify(folder)


def test_the_new_client_is_told_which_other_ways_of_tuning_there_are_not(server: Server, client: genai.Client) -> None:
    config = types.CreateTuningJobConfig(method=types.TuningMethod.PREFERENCE_TUNING, beta=0.1)
    with pytest.raises(genai.errors.ClientError, match="preferenceOptimizationSpec: this way of tuning is not available"):
        client.tunings.tune(base_model=GEMINI, training_dataset=types.TuningDataset(gcs_uri=server.training), config=config)


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ('{"baseModel": "gemini-1.0-pro-002", "supervisedTuningSpec" : {"training_dataset_uri": "TRAIN"}}', 200, ""),
        ('{"baseModel": "gemini-1.0-pro-002", "supervisedTuningSpec" : {"training_dataset_uri": "TRAIN", "validation_dataset_uri": "VALIDATE", '
         '"hyper_parameters": {"epoch_count": 4, "learning_rate_multiplier": 1}}, "tunedModelDisplayName": "x"}', 200, ""),
        # As printed: a comma after the last field, and a quotation mark that is missing.
        ('{"baseModel": "gemini-1.0-pro-002", "supervisedTuningSpec" : {"training_dataset_uri": "TRAIN"},}', 400, "body: not JSON"),
        ('{"baseModel": "gemini-1.0-pro-002", "supervisedTuningSpec" : {"training_dataset_uri": "TRAIN"}, "tunedModelDisplayName": "x}', 400, "body: not JSON"),
    ],
    ids=["basic", "advanced", "trailing comma", "missing quotation mark"],
)  # fmt: skip
def test_the_bodies_for_curl(server: Server, body: str, code: int, told: str) -> None:
    text = body.replace("TRAIN", server.training).replace("VALIDATE", server.validation)
    headers = {"Authorization": "Bearer x", "Content-Type": "application/json; charset=utf-8"}
    answer = httpx.post(f"{server.url}/v1/{PARENT}/tuningJobs", content=text, headers=headers)
    assert answer.status_code == code, answer.text
    assert told in json.dumps(answer.json())
