"""Google's own client against a real socket: custom jobs from submission to their end, and the evaluations and copies of a model."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.custom_job_bench import STEP, deploying_nothing, reached, wait_for, waiting_step
from tests.api.endpoint_bench import listening, of_its_own, opened, poll_quickly
from tuneline.api.app import create_app

aiplatform: Any = pytest.importorskip("google.cloud.aiplatform")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from google.auth.credentials import AnonymousCredentials

    with pytest.MonkeyPatch.context() as patch, opened(tmp_path_factory.mktemp("home")) as shared, listening(create_app(shared.service)) as url:
        poll_quickly(patch)
        patch.setattr(aiplatform.jobs, "_JOB_WAIT_TIME", 0.1)
        place = of_its_own(shared).place
        options = {"api_endpoint": url, "api_transport": "rest", "credentials": AnonymousCredentials(), "staging_bucket": "gs://bucket"}
        aiplatform.init(project=place.split("/")[1], location=place.split("/")[3], **options)
        with warnings.catch_warnings(action="ignore"):
            yield place


def custom_job(command: list[str], **values: Any) -> Any:
    machine = {"machine_type": "a2-ultragpu-8g", "accelerator_type": "NVIDIA_A100_80GB", "accelerator_count": 8}
    container = {"image_uri": "example.org/tuner:1", "command": command[:3], "args": command[3:], "env": [{"name": "TUNELINE_A", "value": "b"}]}
    pool = {"machine_spec": machine, "replica_count": 1, "container_spec": container}
    return aiplatform.CustomJob(worker_pool_specs=[pool], **{"display_name": "a job", **values})


def test_a_job_is_submitted_waited_for_found_and_deleted(place: str, tmp_path: Path) -> None:
    key = f"projects/p/locations/{place.rpartition('/')[2]}/keyRings/r/cryptoKeys/k"
    job = custom_job(deploying_nothing(tmp_path), labels={"run": "one"}, encryption_spec_key_name=key)
    strategy = aiplatform.gapic.Scheduling.Strategy.SPOT
    job.submit(
        service_account="me@p.iam", network="projects/1/global/networks/n", timeout=3600, restart_job_on_worker_restart=True, scheduling_strategy=strategy
    )
    assert job.resource_name.startswith(f"{place}/customJobs/")
    job.wait_for_completion()
    assert (tmp_path / "output_endpoint").exists()
    [found] = aiplatform.CustomJob.list(filter='labels.run="one" AND display_name="a job"')
    got = aiplatform.CustomJob.get(found.resource_name)
    assert (got.state.name, got.error.code, got.web_access_uris) == ("JOB_STATE_SUCCEEDED", 0, {})
    assert got.create_time <= got.start_time <= got.end_time
    spec = got.gca_resource.job_spec
    assert (spec.service_account, spec.network, got.network) == ("me@p.iam", "projects/1/global/networks/n", "projects/1/global/networks/n")
    assert (spec.scheduling.strategy, spec.scheduling.timeout.total_seconds(), spec.scheduling.restart_job_on_worker_restart) == (strategy, 3600, True)
    assert (spec.worker_pool_specs[0].machine_spec.accelerator_type.name, spec.worker_pool_specs[0].replica_count) == ("NVIDIA_A100_80GB", 1)
    assert spec.base_output_directory.output_uri_prefix.startswith("gs://bucket/aiplatform-custom-job-")
    assert got.gca_resource.encryption_spec.kms_key_name == key
    got.delete()
    assert aiplatform.CustomJob.list(filter='labels.run="one"') == []


def test_a_job_that_fails_raises_with_its_reason() -> None:
    job = custom_job(["python", "-m", STEP])
    with pytest.raises(RuntimeError, match=r"code: 3\nmessage: \"The replica workerpool0-0 exited with 2: "):
        job.run()
    assert (job.state.name, job.error.code) == ("JOB_STATE_FAILED", 3)
    with pytest.raises(Exception, match="this service starts nothing but Tuneline's steps"):
        custom_job(["sh", "-c", "true"]).submit()


def test_a_job_is_cancelled(tmp_path: Path) -> None:
    job = custom_job(waiting_step(tmp_path / "pipe"))
    job.submit()
    with wait_for(lambda: reached(tmp_path / "pipe")):
        job.cancel()
        with pytest.raises(RuntimeError, match="The job was cancelled"):
            job.wait_for_completion()
    assert job.state.name == "JOB_STATE_CANCELLED"


def test_evaluations_of_a_model_are_imported_and_listed() -> None:
    model = aiplatform.Model.upload(display_name="m", model_id="mine", serving_container_image_uri="example.org/image:1")
    client = aiplatform.gapic.ModelServiceClient
    evaluation = aiplatform.gapic.ModelEvaluation(display_name="tuned", metrics_schema_uri="gs://b/schema.yaml", metrics={"loss": 1.5})
    imported = model.api_client.import_model_evaluation(parent=model.versioned_resource_name, model_evaluation=evaluation)
    assert client.parse_model_evaluation_path(imported.name)["model"] == "mine@1"
    [listed] = model.list_model_evaluations()
    evaluation_id = imported.name.rpartition("/")[2]
    assert (listed.resource_name, model.get_model_evaluation(evaluation_id).metrics["loss"]) == (imported.name, 1.5)


def test_a_model_is_copied_to_another_region(place: str) -> None:
    copy = aiplatform.Model("mine").copy("europe-west4", destination_model_id="copied")
    assert copy.resource_name == f"{place.replace('us-central1', 'europe-west4')}/models/copied"
    assert (copy.display_name, copy.container_spec.image_uri) == ("m", "example.org/image:1")
