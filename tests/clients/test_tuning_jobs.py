"""What Google's clients find in a tuning job that has ended, and what else they may ask for than the page does.

The finished job is the page's, for an open model. Of all others only the request counts; they are cancelled at once.
"""

import re
import time
from pathlib import Path
from typing import Any

import pytest
import vertexai
from google import genai
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud import aiplatform
from google.genai import types
from google.oauth2.credentials import Credentials
from vertexai.preview import tuning as preview_tuning
from vertexai.preview.tuning import sft as preview_sft
from vertexai.tuning import sft

from tests.clients.bench import PARENT, TOKEN, Server, wait_for
from tuneline.modeling.checkpoints import verify

LLAMA, GEMINI = "meta/llama3_1@llama-3.1-8b", "gemini-1.0-pro-002"
TRAINING, VALIDATION, BASE = "gs://my-bucket/train.jsonl", "gs://my-bucket/validation.jsonl", "gs://my-bucket/base-model"
VERSION = "1.165.1"
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def address(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that says where the service is; and polling that does not take minutes."""
    pause = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: pause(min(seconds, 0.2)))
    _, project, _, location = PARENT.split("/")
    vertexai.init(project=project, location=location, api_endpoint=server.url, api_transport="rest", credentials=Credentials(token=TOKEN))


@pytest.fixture
def client(server: Server) -> genai.Client:
    _, project, _, location = PARENT.split("/")
    return genai.Client(
        vertexai=True, project=project, location=location, credentials=Credentials(token=TOKEN), http_options=types.HttpOptions(base_url=server.url)
    )


@pytest.fixture
def tuned(server: Server) -> sft.SupervisedTuningJob:
    """The page's job for an open model."""
    outcome = server.page_python("Open models", VERSION)
    [name] = re.findall(r"SupervisedTuningJob created\. Resource name: (\S+)", outcome.out + outcome.err)
    return sft.SupervisedTuningJob(name)


def asked(server: Server, name: str | None) -> dict[str, Any]:
    """A job's request, as it is answered; the job is cancelled."""
    assert name
    return server.cancelled(name)


def test_an_open_model_is_tuned_to_the_end(tuned: sft.SupervisedTuningJob) -> None:
    assert tuned.has_succeeded, tuned.error
    assert re.fullmatch(rf"{PARENT}/models/\d+@1", tuned.tuned_model_name)
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
    folder = server.bucket / f"open-model-{VERSION}" / "postprocess" / "node-0" / "checkpoints"
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


def test_jobs_are_listed_by_their_state_and_a_missing_one_is_not_found(tuned: sft.SupervisedTuningJob) -> None:
    found = sft.SupervisedTuningJob.list(filter='state="JOB_STATE_SUCCEEDED"')
    assert tuned.resource_name in [response.resource_name for response in found]
    assert {response.state for response in found} == {tuned.state}
    with pytest.raises(NotFound):
        sft.SupervisedTuningJob(f"{PARENT}/tuningJobs/4982013113894174720")


def test_adapters_of_an_open_model_are_refused_by_name() -> None:
    with pytest.raises(BadRequest, match=r"tuningMode: found TUNING_MODE_PEFT_ADAPTER; .* is tuned with TUNING_MODE_FULL only"):
        sft.train(source_model=LLAMA, tuning_mode="PEFT_ADAPTER", adapter_size=16, train_dataset=TRAINING, output_uri="gs://my-bucket/new")


def test_the_preview_snippet_for_open_models_is_understood(server: Server) -> None:
    sft_tuning_job = preview_sft.preview_train(
        source_model=preview_tuning.SourceModel(base_model="meta/llama3_1@llama-3.1-8b"),
        tuning_mode="FULL",
        epochs=3,
        train_dataset=TRAINING,
        output_uri="gs://my-bucket/preview",
    )
    job = asked(server, sft_tuning_job.resource_name)
    assert (job["outputUri"], job["supervisedTuningSpec"]["tuningMode"]) == ("gs://my-bucket/preview", "TUNING_MODE_FULL")


def test_a_tuned_model_is_rebased(server: Server, tuned: sft.SupervisedTuningJob) -> None:
    for number, name in enumerate((tuned.resource_name, tuned.tuned_model_name, tuned.gca_resource.pipeline_job)):
        job = preview_sft.rebase_tuned_model(name, artifact_destination=f"gs://my-bucket/rebased-{number}")
        assert job.resource_name != tuned.resource_name
        body = asked(server, job.resource_name)
        assert (body["baseModel"], body["outputUri"]) == (LLAMA, f"gs://my-bucket/rebased-{number}")


def test_the_new_client_sends_every_setting_and_sees_the_job_end(server: Server, client: genai.Client) -> None:
    job = client.tunings.tune(
        base_model=LLAMA,
        training_dataset=types.TuningDataset(gcs_uri=TRAINING),
        config=types.CreateTuningJobConfig(
            tuned_model_display_name="x", description="why", epoch_count=3, batch_size=4, learning_rate=1e-5, export_last_checkpoint_only=True,
            tuning_mode=types.TuningMode.TUNING_MODE_FULL, validation_dataset=types.TuningValidationDataset(gcs_uri=VALIDATION),
            custom_base_model=BASE, labels={"team": "a"}, output_uri="gs://my-bucket/genai",
        ),
    )  # fmt: skip
    assert (job.state, job.description, job.base_model) == (types.JobState.JOB_STATE_QUEUED, "why", LLAMA)
    client.tunings.cancel(name=job.name)
    wait_for(lambda: client.tunings.get(name=job.name).has_ended)
    ended = client.tunings.get(name=job.name)
    assert (ended.state, ended.has_succeeded, ended.error.code) == (types.JobState.JOB_STATE_CANCELLED, False, 1)
    assert asked(server, job.name)["supervisedTuningSpec"]["hyperParameters"] == {"epochCount": "3", "batchSize": "4", "learningRate": 1e-5}


def test_the_new_client_reads_a_finished_job_and_tunes_it_further(server: Server, client: genai.Client, tuned: sft.SupervisedTuningJob) -> None:
    found = client.tunings.get(name=tuned.resource_name)
    assert found.has_succeeded
    assert (found.tuned_model.model, [checkpoint.step for checkpoint in found.tuned_model.checkpoints]) == (tuned.tuned_model_name, [2, 4, 5])
    config = types.CreateTuningJobConfig(epoch_count=1, pre_tuned_model_checkpoint_id="2")
    job = client.tunings.tune(base_model=tuned.tuned_model_name, training_dataset=types.TuningDataset(gcs_uri=TRAINING), config=config)
    assert (job.pre_tuned_model.tuned_model_name, job.pre_tuned_model.checkpoint_id, job.pre_tuned_model.base_model) == (tuned.tuned_model_name, "2", LLAMA)
    pipeline = asked(server, asked(server, job.name)["pipelineJob"])
    folder = Path(pipeline["runtimeConfig"]["parameterValues"]["base_model_uri"])
    assert folder.name == "checkpoint-4"
    verify(folder)


def test_jobs_come_in_pages(client: genai.Client, tuned: sft.SupervisedTuningJob) -> None:
    for _ in range(2):
        client.tunings.cancel(name=client.tunings.tune(base_model=GEMINI, training_dataset=types.TuningDataset(gcs_uri=TRAINING)).name)
    names = [found.name for found in client.tunings.list(config={"page_size": 2})]
    assert tuned.resource_name in names
    assert len(names) == len(set(names)) > 2


def test_the_new_client_is_told_which_other_ways_of_tuning_there_are_not(client: genai.Client) -> None:
    config = types.CreateTuningJobConfig(method=types.TuningMethod.PREFERENCE_TUNING, beta=0.1)
    with pytest.raises(genai.errors.ClientError, match="preferenceOptimizationSpec: this way of tuning is not available"):
        client.tunings.tune(base_model=GEMINI, training_dataset=types.TuningDataset(gcs_uri=TRAINING), config=config)
