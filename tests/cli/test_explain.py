"""`tuneline explain`: what is printed, and the exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tuneline.cli import main
from tuneline.hardware import has_gpu

KEYS = ["pipeline_region", "upload_region", "tuning_region", "machine_type", "accelerator_type", "accelerator_count", "batch_size", "reasons"]
REGIONS = "us-central1 europe-west4 asia-southeast1 us-west1 europe-west3 europe-west2 asia-northeast1 us-east4 us-west4"


def explained(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["explain", *arguments, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def refused(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 1) -> str:
    assert main(["explain", *arguments]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def test_json_has_these_keys_and_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    answer = explained(capsys, "tune-large-model", "--pipeline-region", "europe-west2", "--location", "asia-northeast3", "--accelerator-type", "TPU")
    assert list(answer) == KEYS
    assert list(answer.values())[:-1] == ["europe-west2", "asia-northeast3", "europe-west4", "cloud-tpu", "TPU_V3", 64, 24]
    reasons = answer["reasons"]
    assert isinstance(reasons, list)
    assert "The base model is qwen/qwen3@qwen3-8b, a stand-in for text-bison@001." in reasons


def test_the_default_model_is_the_templates_own(capsys: pytest.CaptureFixture[str]) -> None:
    hosted = "https://us-kfp.pkg.dev/ml-pipeline/large-language-model-pipelines/tune-large-chat-model/v3.0.0"
    for template in ("tune-large-chat-model", hosted):
        assert "stand-in for text-bison@001" in str(explained(capsys, template, "--pipeline-region", "us-central1")["reasons"])


@pytest.mark.parametrize(("model", "context", "expected"), [("code-bison@002", "8k", 24), ("code-bison-32k@002", "", 8), ("code-bison-32k@002", "8k", 24)])
def test_the_batch_size_follows_the_context_length(capsys: pytest.CaptureFixture[str], model: str, context: str, expected: int) -> None:
    flags = ["--pipeline-region", "us-west1", "--accelerator-type", "TPU", "--large-model-reference", model, "--max-context-length", context]
    assert explained(capsys, "tune-large-model", *flags)["batch_size"] == expected


def test_a_local_job_is_explained_for_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    answer = explained(capsys, "tune-large-model", "--pipeline-region", "local", "--large-model-reference", "tuneline/tiny-code@001")
    assert answer["tuning_region"] == answer["machine_type"] == "local"
    assert answer["accelerator_count"] == (1 if has_gpu() else 0)


def test_a_users_catalogue_is_laid_over(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('[[alias]]\nreference = "text-bison@001"\nmodel = "tuneline/tiny-code@001"\n')
    answer = explained(capsys, "tune-large-model", "--pipeline-region", "local", "--catalog", str(tmp_path / "mine.toml"))
    assert "The base model is tuneline/tiny-code@001, a stand-in for text-bison@001." in str(answer["reasons"])


def test_the_text_has_every_value_and_every_reason(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["tune-large-model", "--pipeline-region", "us-west4"]
    reasons = explained(capsys, *flags)["reasons"]
    assert main(["explain", *flags]) == 0
    printed = capsys.readouterr().out
    assert isinstance(reasons, list)
    assert [line for line in [*KEYS[:-1], *reasons, "a2-ultragpu-8g", "NVIDIA_A100_80GB"] if line not in printed] == []


def test_an_unknown_region_is_the_users_error_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "tune-large-model", "--pipeline-region", "us-centra1")
    assert "found 'us-centra1'" in text
    assert "Did you mean 'us-central1'?" in text
    assert all(region in text for region in REGIONS.split())


def test_everything_that_is_wrong_is_said_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--pipeline-region", "mars", "--accelerator-type", "NPU", "--large-model-reference", "cod-bison@002", "--encryption-spec-key-name", "k"]
    text = refused(capsys, "tune-large-model", *flags)
    assert [word for word in ("'mars'", "'NPU'", "'cod-bison@002'", "Did you mean 'code-bison@002'", "'k'") if word not in text] == []


def test_a_model_of_the_other_template_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    text = refused(capsys, "tune-large-chat-model", "--pipeline-region", "us-central1", "--large-model-reference", "code-bison@002")
    assert "Use tune-large-model." in text


@pytest.mark.parametrize(
    "flags", [["tune-larg-model", "--pipeline-region", "local"], ["tune-large-model", "--pipeline-region", "local", "--catalog", "no.toml"]]
)
def test_a_template_or_catalogue_that_is_not_there_is_the_users_error(capsys: pytest.CaptureFixture[str], flags: list[str]) -> None:
    assert refused(capsys, *flags)


def test_every_parameter_that_changes_the_place_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--tuning-location", "us-east4", "--machine-type", "a3-highgpu-4g", "--scheduling-strategy", "SPOT", "--replica-count", "2"]
    answer = explained(capsys, "tune-large-model", "--pipeline-region", "us-west4", *flags)
    assert [answer[key] for key in KEYS[2:6]] == ["us-east4", "a3-highgpu-4g", "NVIDIA_H100_80GB", 4]
    assert "2 such machines tune the model together: replica_count asks for it." in str(answer["reasons"])


def test_a_flag_that_the_template_has_not_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Did you mean '--machine-type'" in refused(capsys, "tune-large-model", "--pipeline-region", "local", "--machine-typ", "x", code=2)


@pytest.mark.parametrize("flags", [["tune-large-model"], ["--pipeline-region", "local"], ["tune-large-model", "--pipeline-regio", "local"]])
def test_wrong_usage_ends_with_code_2(flags: list[str]) -> None:
    assert main(["explain", *flags]) == 2


def test_explaining_loads_neither_torch_nor_kfp() -> None:
    program = (
        "import sys; before = set(sys.modules); from tuneline.cli import main; code = main(sys.argv[1:])\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "loaded = new & {'torch', 'transformers', 'kfp', 'google', 'numpy', 'fsspec', 'tokenizers'}\n"
        "sys.exit(f'loaded: {loaded}' if loaded else code)"
    )
    command = [sys.executable, "-c", program, "explain", "tune-large-model", "--pipeline-region", "local"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_not_built_yet_is_a_notice_beside_the_placement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "tune-large-model", "--pipeline-region", "us-central1", "--accelerator-type", "TPU"]) == 0
    printed = capsys.readouterr()
    assert "TPU_V3" in printed.out
    assert "tuning on TPU is not built yet" in printed.err
    assert main(["explain", "tune-large-model", "--pipeline-region", "local", "--large-model-reference", "tuneline/tiny-code@001"]) == 0
    assert capsys.readouterr().err == ""
