"""Registering on Vertex AI, request by request."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import requests

from tests.registry.made_up import CONTENT
from tests.vertex.bench import IMAGE, KEY, LOCATION, REGISTRATION, RESOLVED, TENSORBOARD, World
from tests.vertex.fake_cloud import Refusal, checkpoint, cloud_of
from tuneline.errors import InfrastructureError, ModelError, UserError
from tuneline.vertex.artifacts import CLAIMS


@pytest.fixture
def world() -> World:
    return World()


def test_the_first_version_makes_the_model_under_an_id_that_follows_from_its_names(world: World) -> None:
    registered = world.register()
    [request] = world.api.asked("models:upload")
    assert set(request) == {"model", "modelId"}
    assert registered.resource_name == f"{LOCATION}/models/{request['modelId']}@1"
    assert request["modelId"].startswith("tuneline-")
    [alias] = [alias for alias in request["model"]["versionAliases"] if alias != "default"]
    assert alias.startswith("run-")
    assert len(alias) == len("run-") + 12
    assert request["model"] == {
        "displayName": "our model",
        "versionDescription": "Step 20 of tune-large-model-1",
        "versionAliases": [alias, "default"],
        "labels": {
            "google-vertex-llm-tuning-base-model-id": "code-bison-002", "tune-type": "sft", "tuneline-run": "tune-large-model-1",
            "tuneline-data": "ab" * 20, "team": "code",
        },
        "artifactUri": world.uri,
        "containerSpec": {
            "imageUri": IMAGE, "args": ["--max-body-bytes", "10000000"], "ports": [{"containerPort": 8080}], "predictRoute": "/predict",
            "healthRoute": "/health", "deploymentTimeout": "1860s", "sharedMemorySizeMb": "16384",
        },
    }  # fmt: skip
    assert world.objects.copies == []


def test_the_record_is_that_of_a_model_of_this_machine(world: World) -> None:
    record = world.register().record
    assert (record["versionId"], record["displayName"], record["artifactUri"], record["step"]) == ("1", "our model", world.uri, 20)
    assert (record["pipelineJob"], record["baseModel"], record["standsIn"]) == ("tune-large-model-1", "code-bison@002", "qwen/qwen3@qwen3-8b")
    assert record["files"] == {name: {"sha256": file["sha256"], "bytes": file["bytes"]} for name, file in commit(world)["files"].items()}


def commit(world: World) -> dict[str, Any]:
    return dict(json.loads(world.objects.objects[f"{world.uri}/COMMIT.json"][0]))


def test_the_same_job_registers_once_and_another_one_the_next_version(world: World) -> None:
    first = world.job(1)
    assert world.job(1) == first
    second = world.job(2)
    assert second.resource_name == first.resource_name.replace("@1", "@2")
    assert [set(request) for request in world.api.asked("models:upload")] == [{"model", "modelId"}, {"model", "parentModel"}]
    assert world.job(1).resource_name == first.resource_name


def test_a_version_that_was_registered_without_a_claim_is_found_by_its_alias(world: World) -> None:
    first = world.register()
    for uri in [uri for uri in world.objects.objects if CLAIMS in uri]:
        del world.objects.objects[uri]
    assert world.register() == first
    assert len(world.api.asked("models:upload")) == 1


def test_other_bytes_of_a_job_of_the_same_name_are_another_version(world: World) -> None:
    world.register()
    other = checkpoint(world.objects, "gs://pipeline-root/other/checkpoint-20", {**CONTENT, "config.json": b'{"architectures": [1]}'})
    assert world.register(uri=other).resource_name.endswith("@2")


def test_aliases_parent_image_and_key_are_the_users(world: World) -> None:
    world.job(1)
    [(parent, _)] = world.api.versions.items()
    named = world.register(
        replace(REGISTRATION, display_name="another name", pipeline_job_name="job-2"), parent_model=f"{parent}@1", version_aliases="best, newest",
        encryption_spec_key_name=KEY, serving_container_image_uri="us-docker.pkg.dev/p/r/vllm:1",
    )  # fmt: skip
    assert named.resource_name == f"{parent}@2"
    model = world.api.asked("models:upload")[-1]["model"]
    assert model["versionAliases"][1:] == ["default", "best", "newest"]
    assert model["encryptionSpec"] == {"kmsKeyName": KEY}
    assert model["containerSpec"]["imageUri"] == "us-docker.pkg.dev/p/r/vllm:1"
    assert "args" not in model["containerSpec"]
    assert named.record["versionAliases"] == model["versionAliases"]


@pytest.mark.parametrize("image", ["tuneline/predictor:0.1.0", "predictor"])
def test_an_image_without_a_registry_is_refused_before_anything_is_copied(world: World, image: str) -> None:
    with pytest.raises(UserError, match="names no registry"):
        world.register(serving_container_image_uri=image, model_output_root_dir="gs://elsewhere/models")
    assert world.api.requests == []
    assert world.objects.copies == []


# The checkpoint


def damage(world: World, name: str, content: bytes | None) -> None:
    if content is None:
        del world.objects.objects[f"{world.uri}/{name}"]
    else:
        world.objects.put(f"{world.uri}/{name}", content)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("COMMIT.json", None, "no COMMIT.json"),
        ("COMMIT.json", b"{", "cannot be read as a commit marker"),
        ("COMMIT.json", b'{"files": {"../x": {"sha256": "a", "bytes": 1}}}', r"names \['../x'\]"),
        ("config.json", None, "config.json: missing"),
        ("model.safetensors", b"short", "model.safetensors: 5 bytes; expected 8000"),
        ("pytorch_model.bin", b"pickle", "pytorch_model.bin: does not belong"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_not_registered(world: World, name: str, content: bytes | None, words: str) -> None:
    damage(world, name, content)
    with pytest.raises(ModelError, match=words):
        world.register()
    assert world.api.requests == []


def test_everything_that_is_wrong_with_a_checkpoint_is_told_at_once(world: World) -> None:
    damage(world, "config.json", None)
    damage(world, "model.safetensors", b"short")
    with pytest.raises(ModelError) as caught:
        world.register()
    assert len(caught.value.problems) == 2


def test_what_only_training_reads_may_lie_in_the_folder(world: World) -> None:
    damage(world, "optimizer.safetensors", b"state")
    assert world.register().resource_name.endswith("@1")


EUROPE = replace(RESOLVED, upload_region="europe-west4")


def test_a_checkpoint_of_another_region_is_copied_to_the_projects_bucket_its_marker_last(world: World) -> None:
    registration = replace(REGISTRATION, location="europe-west4")
    registered = world.register(registration, resolved=EUROPE, encryption_spec_key_name=KEY)
    assert world.objects.buckets == [("acme-tuneline-europe-west4", "acme", "europe-west4", KEY)]
    folder = str(registered.record["artifactUri"])
    assert folder.startswith("gs://acme-tuneline-europe-west4/models/tuneline-")
    assert re.fullmatch(r"run-[0-9a-f]{12}", folder.rpartition("/")[2])
    copied = [target.removeprefix(f"{folder}/") for _, target, _ in world.objects.copies]
    assert copied == [*sorted(CONTENT), "COMMIT.json"]
    assert {key for _, _, key in world.objects.copies} == {KEY}
    assert world.register(registration, resolved=EUROPE) == registered
    assert len(world.objects.copies) == len(copied)


def test_a_multi_region_around_the_region_needs_no_copy(world: World) -> None:
    world.objects.locations["pipeline-root"] = "us"
    world.register()
    assert world.objects.copies == []


def test_a_folder_of_the_users_own_gets_a_copy_wherever_the_checkpoint_is(world: World) -> None:
    registered = world.register(model_output_root_dir="gs://release/models/")
    assert str(registered.record["artifactUri"]).startswith("gs://release/models/tuneline-")
    assert world.objects.buckets == []


def test_a_copy_that_was_cut_off_is_finished(world: World) -> None:
    def cut(when: str, what: str) -> None:
        if what.startswith("copy") and what.endswith("model.safetensors") and when == "before":
            raise InfrastructureError("reset")

    world.objects.interrupt = cut
    with pytest.raises(InfrastructureError, match="reset"):
        world.register(model_output_root_dir="gs://release")
    world.objects.interrupt = lambda when, what: None
    assert world.register(model_output_root_dir="gs://release").resource_name.endswith("@1")
    assert [target.rpartition("/")[2] for _, target, _ in world.objects.copies] == ["config.json", "model.safetensors", "two.safetensors", "COMMIT.json"]


# What the API may do


def broken_once(words: str, when: str) -> Callable[[str, str], None]:
    """Break the connection at the first request in whose address the words are, before it arrives or after it was carried out."""
    left = [1]

    def interrupt(now: str, what: str) -> None:
        if left and now == when and words in what:
            left.clear()
            raise requests.exceptions.ReadTimeout("no answer")

    return interrupt


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("seconds", [0, 300])
def test_an_upload_whose_answer_is_lost_is_made_once(world: World, when: str, seconds: float) -> None:
    world.api.operation_seconds = seconds
    world.api.interrupt = broken_once("models:upload", when)
    assert world.register().resource_name.endswith("@1")
    assert [len(versions) for versions in world.api.versions.values()] == [1]


def test_the_next_version_whose_answer_is_lost_is_made_once(world: World) -> None:
    """Here the API would make another one each time."""
    world.job(1)
    world.api.operation_seconds = 300
    world.api.interrupt = broken_once("models:upload", "after")
    assert world.job(2).resource_name.endswith("@2")
    assert [len(versions) for versions in world.api.versions.values()] == [2]


def test_a_job_that_is_overtaken_makes_the_second_version(world: World) -> None:
    """The model does not exist at the look and exists at the call."""

    def overtaken(when: str, what: str) -> None:
        if when == "before" and "models:upload" in what:
            world.api.interrupt = lambda when, what: None
            world.job(2)

    world.api.interrupt = overtaken
    assert world.job(1).resource_name.endswith("@2")
    assert [set(request) & {"modelId", "parentModel"} for request in world.api.asked("models:upload")] == [{"modelId"}, {"modelId"}, {"parentModel"}]


def test_a_refusal_is_the_users_and_leaves_the_claim_free(world: World) -> None:
    world.api.refuse = lambda what: Refusal(403, "no permission") if "models:upload" in what else None
    with pytest.raises(UserError, match="no permission"):
        world.register()
    world.api.refuse = lambda what: None
    assert world.register().resource_name.endswith("@1")
    assert world.time.moment < 100


# Evaluation and curves


def test_what_was_measured_is_imported_once(world: World) -> None:
    registered = world.register()
    world.register()
    [request] = world.api.asked("evaluations:import")
    evaluation = request["modelEvaluation"]
    assert evaluation["metrics"] == {"rougeLSum": 0.25}
    assert evaluation["metricsSchemaUri"].endswith("general_text_generation_metrics_1.0.0.yaml")
    assert evaluation["metadata"] == {"pipeline_job_id": "tune-large-model-1", "loss": 1.5, "rouge_l": 0.25}
    assert list(world.api.evaluations) == [registered.resource_name]


def test_without_generated_answers_there_is_nothing_that_the_schema_knows(world: World) -> None:
    world.register(replace(REGISTRATION, metrics={"loss": 1.5}))
    assert world.api.asked("evaluations") == []


def test_the_curves_are_written_under_the_names_of_the_event_files(world: World) -> None:
    world.register(tensorboard_resource_id=TENSORBOARD)
    world.register(tensorboard_resource_id=TENSORBOARD)
    assert world.api.points == {
        ("/train_total_loss", 1): 2.0, ("/train_fraction_of_correct_next_step_preds", 1): 0.5, ("/train_num_predictions", 1): 30.0,
        ("/train_fraction_of_correct_next_step_preds", 2): 0.5, ("/train_num_predictions", 2): 30.0,
        ("/eval_total_loss", 2): 1.75, ("/eval_fraction_of_correct_next_step_preds", 2): 0.5, ("/eval_num_predictions", 2): 30.0,
    }  # fmt: skip
    names = [name for name in world.api.others if name.startswith(TENSORBOARD)]
    [experiment, run, *series] = names
    assert run == f"{experiment}/runs/tune-large-model-1"
    assert f"{run}/timeSeries/train-total-loss" in series
    assert len(series) == 6


def test_many_points_go_in_several_requests(world: World) -> None:
    from tuneline.vertex.tensorboards import POINTS_A_REQUEST, Point, write_history

    points = [Point("/train_total_loss", step, 1.0) for step in range(POINTS_A_REQUEST + 1)]
    vertex = cloud_of(world.api, world.objects, world.time.clock).vertex("us-central1")
    write_history(vertex, TENSORBOARD, points, model_id="m", model="m", run="r", moment="2026-11-29T00:00:00Z")
    sent = [sum(len(series["values"]) for series in body["timeSeriesData"]) for body in world.api.asked(":write")]
    assert sent == [POINTS_A_REQUEST, 1]
    assert len(world.api.points) == POINTS_A_REQUEST + 1


# The contract


def test_every_request_is_a_message_of_the_published_api(world: World) -> None:
    types = pytest.importorskip("google.cloud.aiplatform_v1.types")
    from google.protobuf import json_format

    world.register(encryption_spec_key_name=KEY, version_aliases="best", tensorboard_resource_id=TENSORBOARD)
    world.job(2)
    kinds = {
        ":upload": types.UploadModelRequest, "evaluations:import": types.ImportModelEvaluationRequest, ":write": types.WriteTensorboardRunDataRequest,
        "/experiments": types.TensorboardExperiment, "/runs": types.TensorboardRun, "/timeSeries": types.TensorboardTimeSeries,
    }  # fmt: skip
    seen = set()
    for what, body in world.api.requests:
        [ending] = [ending for ending in kinds if what.endswith(ending)]
        json_format.ParseDict(body, kinds[ending].pb(kinds[ending]()))  # refuses unknown fields and wrong types
        seen.add(ending)
    assert seen == set(kinds)
