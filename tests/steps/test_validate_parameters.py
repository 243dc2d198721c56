"""The first task: what it refuses before anything is paid for, and what it leaves for the others."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tuneline.errors import CatalogError, DatasetError, ParameterError, UsageError
from tuneline.resolution import Resolved
from tuneline.steps import validate_parameters
from tuneline.steps.validate_parameters import main

STAND_IN = '[[alias]]\nreference = "code-bison@002"\nmodel = "tuneline/tiny-code@001"\n'


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNELINE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path / "home"


def model_folder(folder: Path, architecture: str = "LlamaForCausalLM", model_type: str = "llama") -> Path:
    """A model as far as the first task looks at it."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": model_type}))
    save_file({"weight": np.zeros(2, np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture
def job(tmp_path: Path) -> dict[str, str]:
    """The flags of a job that is in order."""
    for name in ("train", "evaluation"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"input_text": "{name}", "output_text": "x"}}\n')
    return {
        "--project": "p", "--model-display-name": "mine", "--dataset-uri": str(tmp_path / "train.jsonl"), "--large-model-reference": "tuneline/tiny-code@001",
        "--evaluation-data-uri": str(tmp_path / "evaluation.jsonl"), "--base-model-uri": str(model_folder(tmp_path / "model")),
        "--template-name": "tune-large-model", "--pipeline-location": '["local"]',
    }  # fmt: skip


def arguments(flags: Mapping[str, str], folder: Path) -> list[str]:
    outputs = {"--output-resolved": "resolved", "--output-dataset-fingerprint": "fingerprint", "--executor-output": "executor_output.json"}
    every = {**flags, **{flag: str(folder / name) for flag, name in outputs.items()}}
    return [text for pair in every.items() for text in pair]


def outcome(flags: Mapping[str, str], folder: Path) -> tuple[Resolved, str]:
    main(arguments(flags, folder))
    return Resolved.read(folder / "resolved"), (folder / "fingerprint").read_text()


def problems(flags: Mapping[str, str], folder: Path) -> tuple[str, ...]:
    with pytest.raises(ParameterError) as caught:
        main(arguments(flags, folder))
    assert not (folder / "resolved").exists()
    return caught.value.problems


def test_a_job_in_order_is_resolved_and_its_reasons_are_logged(job: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    resolved, fingerprint = outcome(job, tmp_path / "out")
    assert (resolved.backend, resolved.machine_type, resolved.accelerator_type, resolved.batch_size) == ("local", "local", "", 8)
    assert resolved.base_model.uri == job["--base-model-uri"]
    assert len(fingerprint) == 64
    assert int(fingerprint, 16)
    assert [reason for reason in resolved.reasons if reason not in caplog.text] == []
    record = json.loads((tmp_path / "out/executor_output.json").read_text())["artifacts"]["resolved"]["artifacts"][0]
    assert record["uri"] == str(tmp_path / "out/resolved")
    assert record["metadata"] == {
        "batch_size": 8,
        "base_model": "tuneline/tiny-code@001",
        "large_model_reference": "tuneline/tiny-code@001",
        "max_sequence_length": 1024,
    }


def test_a_stand_in_is_named_in_log_and_metadata(job: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "mine.toml").write_text(STAND_IN)
    resolved, _ = outcome({**job, "--large-model-reference": "code-bison@002", "--catalog-uri": str(tmp_path / "mine.toml")}, tmp_path / "out")
    assert resolved.base_model.stands_in == "tuneline/tiny-code@001"
    assert resolved.limits.min_training_examples == 10
    assert "tuneline/tiny-code@001, a stand-in for code-bison@002" in caplog.text
    assert '"base_model": "tuneline/tiny-code@001"' in (tmp_path / "out/executor_output.json").read_text()


def test_a_setting_without_effect_is_logged_as_a_warning(job: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outcome({**job, "--evaluation-interval": "1000.0"}, tmp_path / "out")
    assert [record.levelname for record in caplog.records if "evaluation_interval is more than train_steps" in record.message] == ["WARNING"]


# The fingerprint


def test_the_fingerprint_follows_bytes_and_choices_and_nothing_else(job: dict[str, str], tmp_path: Path) -> None:
    first = outcome(job, tmp_path / "1")[1]
    assert outcome(job, tmp_path / "2")[1] == first
    assert outcome({**job, "--train-steps": "7"}, tmp_path / "3")[1] == first
    seen = {first, outcome({**job, "--batch-size": "3"}, tmp_path / "4")[1]}
    for name in ("train.jsonl", "evaluation.jsonl", "model/config.json"):
        path = tmp_path / name
        path.write_text(path.read_text() + " \n")
        seen.add(outcome(job, tmp_path / f"after {name}")[1])
    assert len(seen) == 5


def test_the_fingerprint_does_not_follow_the_reasons(job: dict[str, str], tmp_path: Path) -> None:
    first, one = outcome(job, tmp_path / "1")
    second, other = outcome({**job, "--location": "local"}, tmp_path / "2")
    assert first.reasons != second.reasons
    assert one == other


def test_the_fingerprint_does_not_follow_what_serves_the_model(job: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever deploys the model of a job after all does not tune it again."""
    monkeypatch.setattr(validate_parameters, "artifact_uri", lambda path: f"gs://root{path}")
    cluster = {**job, "--pipeline-location": '["{{$.pipeline_google_cloud_location}}"]'}
    first, one = outcome(cluster, tmp_path / "1")
    second, other = outcome({**cluster, "--deploy-model": "true"}, tmp_path / "2")
    assert first.serving != second.serving
    assert one == other


def test_swapped_data_is_another_job(job: dict[str, str], tmp_path: Path) -> None:
    swapped = {**job, "--dataset-uri": job["--evaluation-data-uri"], "--evaluation-data-uri": job["--dataset-uri"]}
    assert outcome(job, tmp_path / "1")[1] != outcome(swapped, tmp_path / "2")[1]


# Refusals


def test_parameters_data_and_model_are_refused_at_once(job: dict[str, str], tmp_path: Path) -> None:
    found = problems(
        {**job, "--train-steps": "0", "--evaluation-data-uri": str(tmp_path / "nothing.jsonl"), "--dataset-uri": str(tmp_path)}, tmp_path / "out"
    )  # fmt: skip
    assert [problem.partition(":")[0] for problem in found] == ["train_steps", "dataset_uri", "evaluation_data_uri"]
    assert "is a folder; expected a JSONL file" in found[1]
    assert "no such file or folder" in found[2]
    assert "Check the spelling" in found[2]


def test_data_and_model_are_looked_at_together(job: dict[str, str], tmp_path: Path) -> None:
    found = problems({**job, "--dataset-uri": str(tmp_path / "nothing"), "--base-model-uri": str(tmp_path / "no model")}, tmp_path / "out")
    assert [problem.partition(":")[0] for problem in found] == ["dataset_uri", f"base model {tmp_path}/no model"]


def test_a_refused_uri_is_refused_once(job: dict[str, str], tmp_path: Path) -> None:
    assert len(problems({**job, "--dataset-uri": "https://example.com/x"}, tmp_path / "out")) == 1


def test_weights_of_another_architecture_are_refused(job: dict[str, str], tmp_path: Path) -> None:
    other = model_folder(tmp_path / "other", "Qwen3ForCausalLM", "qwen3")
    (found,) = problems({**job, "--base-model-uri": str(other)}, tmp_path / "out")
    assert "found a Qwen3ForCausalLM; tuneline/tiny-code@001 is a LlamaForCausalLM" in found


def test_an_unsafe_model_folder_is_refused(job: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "model/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "code.Model"}}))
    (found,) = problems(job, tmp_path / "out")
    assert "auto_map" in found


def test_a_model_that_is_not_on_this_machine_is_refused_before_any_other_task(job: dict[str, str], tmp_path: Path, home: Path) -> None:
    (found,) = problems({**job, "--base-model-uri": "", "--large-model-reference": "qwen/qwen3@qwen3-4b"}, tmp_path / "out")
    assert found.startswith("base model hf://Qwen/Qwen3-4B: ")


def test_nothing_is_downloaded_for_a_job_with_another_problem(job: dict[str, str], tmp_path: Path, home: Path) -> None:
    found = problems(
        {**job, "--base-model-uri": "", "--large-model-reference": "qwen/qwen3@qwen3-4b", "--dataset-uri": str(tmp_path / "nothing")}, tmp_path / "out"
    )  # fmt: skip
    assert len(found) == 1
    assert not home.exists()


def test_an_architecture_that_is_not_tuned_is_refused_without_a_download(job: dict[str, str], tmp_path: Path, home: Path) -> None:
    (found,) = problems({**job, "--base-model-uri": "", "--large-model-reference": "google/gemma3@gemma-3-12b-it"}, tmp_path / "out")
    assert "google/gemma3@gemma-3-12b-it is a Gemma3ForConditionalGeneration" in found
    assert not home.exists()


def test_tpu_is_not_built_yet(job: dict[str, str], tmp_path: Path) -> None:
    (found,) = problems({**job, "--accelerator-type": "TPU"}, tmp_path / "out")
    assert "tuning on TPU is not built yet" in found


def test_a_champion_that_later_runs_could_not_read_is_refused_at_the_start(job: dict[str, str], tmp_path: Path) -> None:
    flags = {**job, "--pipeline-location": '["{{$.pipeline_google_cloud_location}}"]', "--continue-from-champion": "true"}
    (found,) = problems(flags, tmp_path / "out")
    assert found.startswith(f"continue_from_champion: artifacts are at {tmp_path}/out/resolved; later runs read the champion from gs:// only.")


def test_a_model_that_could_not_be_deployed_in_the_end_is_refused_at_the_start(job: dict[str, str], tmp_path: Path) -> None:
    """KServe reads no folder of this machine; a pod's folder is that of the pipeline root."""
    flags = {**job, "--pipeline-location": '["{{$.pipeline_google_cloud_location}}"]'}
    (found,) = problems({**flags, "--deploy-model": "true"}, tmp_path / "out")
    assert found.startswith(f"deploy_model: artifacts are at {tmp_path}/out/resolved; KServe reads gs:// and s3://.")
    assert outcome(flags, tmp_path / "out")[0].serving is None


def test_on_kubernetes_the_model_is_not_fetched_by_this_task(job: dict[str, str], tmp_path: Path, home: Path) -> None:
    flags = {**job, "--pipeline-location": '["{{$.pipeline_google_cloud_location}}"]', "--base-model-uri": "", "--large-model-reference": "qwen/qwen3@qwen3-4b"}
    assert outcome(flags, tmp_path / "out")[0].backend == "kubernetes"
    assert not home.exists()


def test_a_wrong_catalogue_is_refused(job: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("[[modle]]\n")
    with pytest.raises(CatalogError, match=r"mine\.toml: unknown table 'modle'"):
        main(arguments({**job, "--catalog-uri": str(tmp_path / "mine.toml")}, tmp_path / "out"))
    with pytest.raises(DatasetError, match="no such file or folder"):
        main(arguments({**job, "--catalog-uri": str(tmp_path / "yours.toml")}, tmp_path / "out"))


def test_an_unknown_flag_is_a_usage_error(job: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean '--train-steps'"):
        main(arguments({**job, "--train-step": "3"}, tmp_path / "out"))


def test_as_a_process_it_ends_with_code_1_and_an_error_file(job: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "TUNELINE_ERROR_FILE": str(tmp_path / "error.json")}
    command = [sys.executable, "-m", "tuneline.steps.validate_parameters", *arguments({**job, "--train-steps": "0", "--seed": "-1"}, tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    error = json.loads((tmp_path / "error.json").read_text())
    assert (error["code"], error["attribution"], error["step"]) == (1, "user", "validate-parameters")
    assert error["cause"].splitlines()[0].startswith("train_steps: found 0")
    assert error["cause"].splitlines()[1].startswith("seed: found -1")
