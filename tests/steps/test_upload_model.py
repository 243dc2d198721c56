"""The step from files to files; the registry is a folder of the test."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.kubernetes.fake_config_maps import NAMESPACE, config_maps
from tests.registry.made_up import CONTENT, registration, write_checkpoint
from tests.vertex.bench import HISTORY, IMAGE, TENSORBOARD, World
from tests.vertex.fake_cloud import cloud_of
from tuneline.errors import ModelError, UserError
from tuneline.evaluation.results import Evaluation, Measured
from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.registry import lineage, models
from tuneline.resolution import Backend, Limits, Resolved, ResolvedModel
from tuneline.steps import kubernetes_upload, registering
from tuneline.steps.upload_model import main


def resolved(backend: Backend = "local") -> Resolved:
    model = ResolvedModel(reference="code-bison@002", stands_in="tuneline/tiny-code@001", uri="embedded:x", max_sequence_length=256, learning_rate=1e-3)
    return Resolved(
        backend=backend, pipeline_region="local", upload_region="europe-west4", tuning_region="local", machine_type="", accelerator_type="",
        accelerator_count=0, batch_size=2, base_model=model, limits=Limits(), reasons=(),
    )  # fmt: skip


class Pipeline:
    """The outputs of the tasks before, on disk, and a place for this one's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_checkpoint(folder / "checkpoint-20")
        candidates = (Measured(step=20, loss=1.5, token_accuracy=0.5, num_predictions=30), Measured(step=40, loss=1.0, token_accuracy=0.4, num_predictions=30))
        evaluation = Evaluation(base=Measured(step=0), candidates=candidates, selected_step=20, metric="token_accuracy", generations=())
        (folder / "evaluation.json").write_text(evaluation.to_json())
        self.decide(None)

    def decide(self, promoted: bool | None, *, data: str = "", backend: Backend = "local") -> None:
        """What select-checkpoint decided about the champion, if there is a gate, and which data validate-parameters saw."""
        selected = {"selected_step": 20, "checkpoint": "checkpoint-20", "metric": "token_accuracy", "reason": ""}
        decided = None if promoted is None else {"is_promoted": promoted, "reason": "Because."}
        (self.folder / "selected.json").write_text(json.dumps({**selected, "promotion": decided}))
        (self.folder / "resolved.json").write_text(replace(resolved(backend), data_fingerprint=data).to_json())

    def run(self, attempt: str = "1", **parameters: str) -> str:
        """The model's resource name."""
        files = {"resolved": "resolved.json", "model": "checkpoint-20", "evaluation": "evaluation.json", "selected": "selected.json", "history": "history.json"}
        outputs = {"output-uploaded": "uploaded", "output-model-resource-name": "name", "executor-output": "executor.json"}
        flags = {"project": "acme", "model-display-name": "our model", "pipeline-job-name": "job-1", "serving-image": "i"}
        flags |= {k.replace("_", "-"): v for k, v in parameters.items()}
        places = {name: str(self.folder / file) for name, file in files.items()} | {name: str(self.folder / attempt / file) for name, file in outputs.items()}
        flags = places | flags
        main([word for name, value in flags.items() for word in (f"--{name}", value)])
        return (self.folder / attempt / "name").read_text()

    def output(self, name: str, attempt: str = "1") -> dict[str, object]:
        content: dict[str, object] = json.loads((self.folder / attempt / name).read_text())
        return content


@pytest.fixture
def pipeline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pipeline:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    return Pipeline(tmp_path)


def test_the_selected_checkpoint_is_registered_with_its_metrics_in_the_upload_region(pipeline: Pipeline) -> None:
    name = pipeline.run()
    version = models.get(name)
    assert name == f"projects/acme/locations/europe-west4/models/{version.model_id}@1"
    assert {file: (version.artifact_folder / file).read_bytes() for file in CONTENT} == CONTENT
    assert version.registration.metrics == {"loss": 1.5, "token_accuracy": 0.5, "num_predictions": 30}
    assert (version.registration.base_model, version.registration.stands_in) == ("code-bison@002", "tuneline/tiny-code@001")
    assert version.labels["google-vertex-llm-tuning-base-model-id"] == "code-bison-002"


def test_the_labels_of_the_run_are_the_models_but_never_in_the_place_of_its_own(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTEX_AI_PIPELINES_RUN_LABELS", json.dumps({"team": "a", "tune-type": "mine", "tuneline-run": "other"}))
    expected = {"team": "a", "google-vertex-llm-tuning-base-model-id": "code-bison-002", "tune-type": "sft", "tuneline-run": "job-1"}
    assert models.get(pipeline.run()).labels == expected


def test_the_artifact_carries_the_record_and_the_resource_name(pipeline: Pipeline) -> None:
    name = pipeline.run()
    assert pipeline.output("uploaded") == models.get(name).to_json()
    [artifact] = pipeline.output("executor.json")["artifacts"]["uploaded"]["artifacts"]  # type: ignore[index]
    assert artifact == {"name": "uploaded", "uri": str(pipeline.folder / "1/uploaded"), "metadata": {"resourceName": name}}


def test_a_second_attempt_of_the_same_job_registers_nothing_new(pipeline: Pipeline) -> None:
    assert pipeline.run("1") == pipeline.run("2")
    assert pipeline.run("3", pipeline_job_name="job-2").endswith("@2")
    assert len(models.list_versions()) == 2


def test_with_upload_off_the_name_is_empty_and_nothing_is_registered(pipeline: Pipeline) -> None:
    (pipeline.folder / "resolved.json").write_text(resolved("kubernetes").to_json())
    assert pipeline.run(upload_model="false") == ""
    assert pipeline.output("uploaded") == {}
    assert models.list_versions() == []


def test_on_vertex_the_checkpoint_in_the_bucket_is_registered(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(registering, "Cloud", lambda: cloud_of(world.api, world.objects, world.time.clock))
    monkeypatch.setenv("VERTEX_AI_PIPELINES_RUN_LABELS", '{"team": "code"}')
    choices = replace(resolved("vertex"), upload_region="us-central1", pipeline_region="us-central1", data_fingerprint="c" * 64)
    (pipeline.folder / "resolved.json").write_text(choices.to_json())
    (pipeline.folder / "history.json").write_text(HISTORY)
    given = {"model": world.uri.replace("gs://", "/gcs/"), "serving_image": IMAGE, "tensorboard_resource_id": TENSORBOARD}
    name = pipeline.run(**given)
    assert name.startswith("projects/acme/locations/us-central1/models/tuneline-")
    assert name.endswith("@1")
    record = pipeline.output("uploaded")
    assert record.keys() == models.register(pipeline.folder / "checkpoint-20", registration()).to_json().keys()
    assert (record["artifactUri"], record["metrics"]) == (world.uri, {"loss": 1.5, "token_accuracy": 0.5, "num_predictions": 30})
    assert record["labels"] == {
        "google-vertex-llm-tuning-base-model-id": "code-bison-002", "tune-type": "sft", "tuneline-run": "job-1", "tuneline-data": "c" * 40, "team": "code",
    }  # fmt: skip
    assert ("/train_total_loss", 1) in world.api.points
    assert pipeline.run("2", **given) == name
    assert len(world.api.asked("models:upload")) == 1


def test_in_a_cluster_the_models_address_is_its_name(pipeline: Pipeline) -> None:
    (pipeline.folder / "resolved.json").write_text(resolved("kubernetes").to_json())
    name = pipeline.run()
    assert name == str(pipeline.folder / "checkpoint-20")  # a pod has it at /gcs/... or /minio/..., whose URI it then is
    record = pipeline.output("uploaded")
    assert (record["name"], record["artifactUri"], record["versionId"], record["step"]) == (name, name, "", 20)
    (pipeline.folder / "checkpoint-20/config.json").write_text("damaged")
    with pytest.raises(ModelError, match=r"config\.json"):
        pipeline.run("2")


def test_a_damaged_checkpoint_is_not_registered(pipeline: Pipeline) -> None:
    (pipeline.folder / "checkpoint-20/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        pipeline.run()
    assert models.list_versions() == []


def test_a_model_that_was_never_measured_is_registered_without_metrics(pipeline: Pipeline) -> None:
    evaluation = Evaluation(base=Measured(step=0), candidates=(Measured(step=20),), selected_step=20, metric="token_accuracy", generations=())
    (pipeline.folder / "evaluation.json").write_text(evaluation.to_json())
    assert models.get(pipeline.run()).registration.metrics == {}


def test_in_a_cluster_with_a_registry_it_is_a_version_and_may_be_the_champion(pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    with config_maps() as (maps, client):
        monkeypatch.setattr(kubernetes_upload, "ModelRegistry", partial(ModelRegistry, client=client, namespace=NAMESPACE))
        for attempt in ("1", "2"):
            pipeline.decide(promoted=True, data="1" * 64, backend="kubernetes")
            name = pipeline.run(attempt)
            record = pipeline.output("uploaded", attempt)
            assert (record["name"], record["versionId"], record["versionAliases"]) == (name, "1", ["default", "champion"])
        pipeline.decide(promoted=False, data="2" * 64, backend="kubernetes")
        assert pipeline.run("3") == ""
        assert pipeline.output("uploaded", "3") == {}
        [found] = maps.objects.values()
        assert (found["data"]["champion"], found["data"]["refused"]) == ("1", "2" * 40)


def test_a_cluster_that_keeps_no_versions_is_an_error_only_where_they_are_needed(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    with config_maps() as (maps, client):
        monkeypatch.setattr(kubernetes_upload, "ModelRegistry", partial(ModelRegistry, client=client, namespace=NAMESPACE))
        maps.forbidden = {"GET", "POST", "PUT"}
        pipeline.decide(promoted=None, backend="kubernetes")
        assert pipeline.run() == str(pipeline.folder / "checkpoint-20")
        assert "no version was recorded" in caplog.text
        pipeline.decide(promoted=True, backend="kubernetes")
        with pytest.raises(UserError, match="configmaps is forbidden"):
            pipeline.run("2")
        maps.forbidden = set()
        ModelRegistry(project="acme", display_name="our model", client=client, namespace=NAMESPACE).unchanged("d")  # a job skips when nothing is new
        maps.forbidden = {"PUT"}
        pipeline.decide(promoted=None, backend="kubernetes")
        with pytest.raises(UserError, match="configmaps is forbidden"):
            pipeline.run("3")


# The champion


def champion_of(name: str) -> str:
    found = lineage.champion(models.get(name).registration)
    return found.resource_name if found else ""


def test_without_a_gate_nobody_becomes_the_champion(pipeline: Pipeline) -> None:
    assert champion_of(pipeline.run()) == ""


def test_a_promoted_model_is_registered_with_its_data_and_becomes_the_champion(pipeline: Pipeline) -> None:
    for number in (1, 2):
        pipeline.decide(promoted=True, data=f"{number}" * 64)
        name = pipeline.run(str(number), pipeline_job_name=f"job-{number}")
        assert name.endswith(f"@{number}")
        assert champion_of(name) == name
        assert models.get(name).labels["tuneline-data"] == f"{number}" * 40
        assert lineage.unchanged(models.get(name).registration, f"{number}" * 64)


def test_a_model_that_does_not_beat_the_champion_is_not_registered_and_its_data_are_remembered(pipeline: Pipeline) -> None:
    pipeline.decide(promoted=True, data="1" * 64)
    champion = pipeline.run("1")
    pipeline.decide(promoted=False, data="2" * 64)
    assert pipeline.run("2", pipeline_job_name="job-2") == ""
    assert pipeline.output("uploaded", "2") == {}
    assert [version.resource_name for version in models.list_versions()] == [champion]
    assert champion_of(champion) == champion
    assert "did not lead to a better model" in lineage.unchanged(models.get(champion).registration, "2" * 64)


def test_a_champion_that_has_gone_meanwhile_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.decide(promoted=False)
    assert pipeline.run() == ""
    assert models.list_versions() == []
