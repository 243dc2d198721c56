"""The compiled templates: current, and the contract that users of the hosted templates know."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf import json_format
from kfp import components as kfp_components
from kfp.pipeline_spec import pipeline_spec_pb2

import pipelines.compile as compilation
from components import COMPONENTS, images
from pipelines import PIPELINES
from tuneline import __version__, templates

ROOT = Path(__file__).parents[2]
NAMES = ("tune-large-model", "tune-large-chat-model")
FILES = sorted((ROOT / "compiled").rglob("*.yaml"))
REQUIRED = None

# The hosted templates' parameters. `location` is required there by the spec and optional by the documentation; the latter holds.
HOSTED = {
    "project": ("STRING", REQUIRED),
    "location": ("STRING", ""),
    "model_display_name": ("STRING", REQUIRED),
    "dataset_uri": ("STRING", ""),
    "dataset_name": ("STRING", ""),
    "large_model_reference": ("STRING", "text-bison@001"),
    "train_steps": ("NUMBER_INTEGER", 300),
    "learning_rate": ("NUMBER_DOUBLE", -1),
    "learning_rate_multiplier": ("NUMBER_DOUBLE", 1),
    "accelerator_type": ("STRING", ""),
    "evaluation_data_uri": ("STRING", ""),
    "evaluation_interval": ("NUMBER_INTEGER", 20),
    "evaluation_output_root_dir": ("STRING", ""),
    "enable_early_stopping": ("BOOLEAN", True),
    "enable_checkpoint_selection": ("STRING", "default"),
    "tensorboard_resource_id": ("STRING", ""),
    "default_context": ("STRING", ""),
    "encryption_spec_key_name": ("STRING", ""),
    "max_context_length": ("STRING", ""),
    "tuning_method": ("STRING", "tune_v2"),
    "tpu_training_skip_cmek": ("BOOLEAN", False),
    "api_endpoint": ("STRING", "aiplatform.googleapis.com/ui"),
}
OURS = {
    "base_model_uri": ("STRING", ""),
    "accelerator_count": ("NUMBER_INTEGER", 0),
    "batch_size": ("NUMBER_INTEGER", 0),
    "catalog_uri": ("STRING", ""),
    "champion_gate": ("BOOLEAN", False),
    "champion_margin": ("NUMBER_DOUBLE", 0),
    "continue_from_champion": ("BOOLEAN", False),
    "dedicated_endpoint_enabled": ("BOOLEAN", True),
    "deploy_model": ("BOOLEAN", False),
    "evaluation_max_tokens": ("NUMBER_INTEGER", 128),
    "evaluation_num_prompts": ("NUMBER_INTEGER", 32),
    "general_data_uri": ("STRING", ""),
    "machine_type": ("STRING", ""),
    "max_general_loss_increase": ("NUMBER_DOUBLE", 0.1),
    "max_replica_count": ("NUMBER_INTEGER", 1),
    "max_wait_duration": ("STRING", ""),
    "min_replica_count": ("NUMBER_INTEGER", 1),
    "model_output_root_dir": ("STRING", ""),
    "network": ("STRING", ""),
    "overlength_policy": ("STRING", "error"),
    "parent_model": ("STRING", ""),
    "replica_count": ("NUMBER_INTEGER", 1),
    "reservation": ("STRING", ""),
    "scheduling_strategy": ("STRING", ""),
    "seed": ("NUMBER_INTEGER", 0),
    "selection_metric": ("STRING", "token_accuracy"),
    "service_account": ("STRING", ""),
    "serving_container_image_uri": ("STRING", ""),
    "serving_machine_type": ("STRING", ""),
    "serving_spot": ("BOOLEAN", False),
    "skip_unchanged": ("BOOLEAN", False),
    "target_endpoint": ("STRING", ""),
    "traffic_percentage": ("NUMBER_INTEGER", 100),
    "tuning_fallbacks": ("STRING", ""),
    "tuning_image_uri": ("STRING", ""),
    "tuning_location": ("STRING", ""),
    "undeploy_after_hours": ("NUMBER_INTEGER", 0),
    "upload_model": ("BOOLEAN", True),
    "version_aliases": ("STRING", ""),
}

TASKS = {
    "validate-parameters": set(),
    "transform-dataset": {"validate-parameters"},
    "tune-model": {"validate-parameters", "transform-dataset"},
    "evaluate-model": {"validate-parameters", "transform-dataset", "tune-model"},
    "select-checkpoint": {"validate-parameters", "transform-dataset", "tune-model", "evaluate-model"},
    "upload-model": {"validate-parameters", "tune-model", "evaluate-model", "select-checkpoint"},
    "deploy-model": {"validate-parameters", "select-checkpoint", "upload-model"},
}
CACHED = {"transform-dataset", "tune-model", "evaluate-model", "select-checkpoint"}


def compiled(name: str) -> dict:
    return yaml.safe_load((ROOT / "compiled" / f"{name}.yaml").read_text(encoding="utf-8"))


each_name = pytest.mark.parametrize("name", NAMES)
each_file = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def test_there_is_a_template_for_each_pipeline_and_component() -> None:
    expected = {f"{name}.yaml" for name in NAMES} | {f"components/{component.name.replace('-', '_')}.yaml" for component in COMPONENTS}
    assert {file.relative_to(ROOT / "compiled").as_posix() for file in FILES} == expected
    assert [pipeline.name for pipeline in PIPELINES] == list(NAMES)


def test_compiled_templates_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert compilation.main(["--check"]) == 0, capsys.readouterr().err


def test_compiled_bytes_do_not_depend_on_the_process() -> None:
    program = "import json, sys; from pipelines.compile import compile_all; json.dump(compile_all(), sys.stdout)"
    path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
    texts = {
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}, capture_output=True, check=True, timeout=120
        ).stdout
        for seed in ("1", "2")
    }
    assert len(texts) == 1


def test_check_names_each_stale_file_and_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(compilation, "ROOT", tmp_path)
    monkeypatch.setattr(compilation, "FOLDERS", (tmp_path / "one", tmp_path / "two"))
    assert compilation.main([]) == 0
    assert compilation.main(["--check"]) == 0
    (tmp_path / "one/tune-large-model.yaml").write_text("old: true\n", encoding="utf-8")
    (tmp_path / "one/components/tune_model.yaml").unlink()
    (tmp_path / "two/left-over.yaml").write_text("", encoding="utf-8")
    assert compilation.main(["--check"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{name} is not current. Run: python -m pipelines.compile"
        for name in ("one/components/tune_model.yaml", "one/tune-large-model.yaml", "two/left-over.yaml")
    ]
    assert compilation.main([]) == 0
    assert compilation.main(["--check"]) == 0
    assert not (tmp_path / "two/left-over.yaml").exists()


@each_name
def test_inputs_are_the_hosted_templates_and_ours(name: str) -> None:
    inputs = compiled(name)["root"]["inputDefinitions"]["parameters"]
    found = {key: (definition["parameterType"], definition.get("defaultValue")) for key, definition in inputs.items()}
    assert found == {**HOSTED, **OURS}


@each_name
def test_only_inputs_without_default_are_required(name: str) -> None:
    inputs = compiled(name)["root"]["inputDefinitions"]["parameters"]
    assert {key for key, definition in inputs.items() if not definition.get("isOptional")} == {"project", "model_display_name"}


@each_name
def test_every_input_is_described(name: str) -> None:
    inputs = compiled(name)["root"]["inputDefinitions"]["parameters"]
    assert [key for key, definition in inputs.items() if not definition.get("description")] == []


@each_name
def test_outputs_are_the_model_and_the_endpoint(name: str) -> None:
    root = compiled(name)["root"]
    assert {key: definition["parameterType"] for key, definition in root["outputDefinitions"]["parameters"].items()} == {
        "model_resource_name": "STRING",
        "endpoint_resource_name": "STRING",
    }
    producers = {key: selector["valueFromParameter"]["producerSubtask"] for key, selector in root["dag"]["outputs"]["parameters"].items()}
    assert producers == {"model_resource_name": "upload-model", "endpoint_resource_name": "deploy-model"}


@each_name
def test_tasks_have_the_names_that_the_sdk_looks_for(name: str) -> None:
    tasks = compiled(name)["root"]["dag"]["tasks"]
    assert {key: set(task.get("dependentTasks", [])) for key, task in tasks.items()} == TASKS
    assert {task["taskInfo"]["name"] for task in tasks.values()} == set(TASKS)


@each_name
def test_tasks_that_look_outside_are_never_cached(name: str) -> None:
    tasks = compiled(name)["root"]["dag"]["tasks"]
    assert {key for key, task in tasks.items() if task["cachingOptions"].get("enableCache")} == CACHED


@each_name
def test_the_long_tasks_and_those_that_call_services_are_tried_twice(name: str) -> None:
    tasks = compiled(name)["root"]["dag"]["tasks"]
    retries = {key: task["retryPolicy"]["maxRetryCount"] for key, task in tasks.items() if "retryPolicy" in task}
    assert retries == dict.fromkeys(("tune-model", "evaluate-model", "upload-model", "deploy-model"), 1)


@each_name
def test_the_datas_fingerprint_is_an_input_of_every_task_that_reads_the_data(name: str) -> None:
    tasks = compiled(name)["root"]["dag"]["tasks"]
    for task in ("transform-dataset", "tune-model", "evaluate-model"):
        assert tasks[task]["inputs"]["parameters"]["dataset_fingerprint"]["taskOutputParameter"] == {
            "producerTask": "validate-parameters",
            "outputParameterKey": "dataset_fingerprint",
        }


@each_name
def test_constants_are_the_only_placeholders_in_the_graph(name: str) -> None:
    """A value of the user is handed on as it is, never put inside a text that is then searched for placeholders."""
    found = {}
    for task in compiled(name)["root"]["dag"]["tasks"].values():
        for key, value in task["inputs"]["parameters"].items():
            assert set(value) <= {"componentInputParameter", "taskOutputParameter", "runtimeValue"}
            if "runtimeValue" in value:
                found[key] = value["runtimeValue"]["constant"]
    assert found == {
        "template_name": name,
        "pipeline_location": ["{{$.pipeline_google_cloud_location}}"],
        "pipeline_job_name": "{{$.pipeline_job_name}}",
    }


@each_name
def test_pipeline_is_called_like_its_file(name: str) -> None:
    assert compiled(name)["pipelineInfo"]["name"] == name


@each_name
def test_description_says_which_tuneline_compiled_it_where_kfp_reads_it(name: str) -> None:
    spec = json_format.ParseDict(compiled(name), pipeline_spec_pb2.PipelineSpec())
    assert spec.pipeline_info.description.endswith(f". Tuneline {__version__}.")


@each_file
def test_file_is_one_document_without_platform_parts(file: Path) -> None:
    [document] = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    assert set(document) == {"components", "deploymentSpec", "pipelineInfo", "root", "schemaVersion", "sdkVersion"}


@each_file
def test_file_is_small_and_installs_nothing(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert not re.search(r"\bpip3?\b", text)


@each_file
def test_images_are_ours_and_nothing_is_asked_of_the_machine(file: Path) -> None:
    executors = yaml.safe_load(file.read_text(encoding="utf-8"))["deploymentSpec"]["executors"]
    assert executors
    for executor in executors.values():
        assert set(executor) == {"container"}
        assert set(executor["container"]) == {"image", "command", "args"}
        assert executor["container"]["image"] in {images.BASE, images.TUNER}
        assert executor["container"]["command"][:2] == ["python", "-m"]


@each_file
def test_kfp_can_load_it(file: Path) -> None:
    loaded = kfp_components.load_component_from_text(file.read_text(encoding="utf-8"))
    assert loaded.name == file.stem.replace("_", "-")


@each_file
def test_file_says_that_it_is_generated(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# Generated by `python -m pipelines.compile`; do not edit.\n")


def test_the_package_carries_the_same_files() -> None:
    for file in FILES:
        copy = templates.FOLDER / file.relative_to(ROOT / "compiled")
        assert copy.read_bytes() == file.read_bytes()
