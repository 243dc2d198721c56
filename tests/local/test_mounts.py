from pathlib import Path

import pytest

from tuneline.local.containers import Mount
from tuneline.local.mounts import credentials, merged, needs_network, readable, run_mounts, uris_of

ROW = '[[model]]\nreference = "tuneline/tiny-code@001"\nuri = "{}"\n'
TINY = {"large_model_reference": "tuneline/tiny-code@001"}


def test_uris_are_found_by_the_names_of_their_parameters(tmp_path: Path) -> None:
    given = {"dataset_uri": "/d.jsonl", "evaluation_output_root_dir": "gs://b/o", "base_model_uri": "", "train_steps": 3, "default_context": "/etc/passwd"}
    assert uris_of(given, downloads=tmp_path) == {"dataset_uri": "/d.jsonl", "evaluation_output_root_dir": "gs://b/o"}


@pytest.mark.parametrize(
    ("parameters", "row", "uri"),
    [
        (TINY, "", "embedded:tiny-code-001"),
        ({"large_model_reference": "text-bison@001"}, "", "hf://Qwen/Qwen3-8B"),
        (TINY, "/models/mine", "/models/mine"),
        ({**TINY, "base_model_uri": "/weights"}, "/models/mine", "/weights"),
        ({"large_model_reference": "no/such"}, "", None),
        ({**TINY, "catalog_uri": "gs://b/rows.toml"}, "", "embedded:tiny-code-001"),
    ],
    ids=str,
)
def test_the_base_model_of_the_catalogue_is_one_of_them(parameters: dict[str, object], row: str, uri: str | None, tmp_path: Path) -> None:
    if row:
        (tmp_path / "rows.toml").write_text(ROW.format(row))
        parameters = {**parameters, "catalog_uri": str(tmp_path / "rows.toml")}
    assert uris_of(parameters, downloads=tmp_path).get("base_model_uri") == uri  # type: ignore[arg-type]


@pytest.mark.parametrize("parameters", [{"base_model_uri": "hf://owner/name"}, {"large_model_reference": "text-bison@001"}], ids=str)
def test_a_model_that_was_downloaded_already_needs_no_network(parameters: dict[str, object], tmp_path: Path) -> None:
    assert needs_network(uris_of(parameters, downloads=tmp_path))  # type: ignore[arg-type]
    for name in ("owner/name", "Qwen/Qwen3-8B"):
        (tmp_path / "hf" / name).mkdir(parents=True)
        (tmp_path / "hf" / name / ".complete").touch()
    assert not needs_network(uris_of(parameters, downloads=tmp_path))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("uri", "needed"),
    [("/a", False), ("file:///a", False), ("embedded:x", False), ("relative", False), ("gs://b/x", True), ("hf://a/b", True), ("https://x", True)],
)
def test_only_what_is_elsewhere_needs_the_network(uri: str, needed: bool) -> None:
    assert needs_network({"dataset_uri": uri}) is needed


def test_a_task_reads_its_inputs_and_writes_its_outputs(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    uris = {
        "dataset_uri": str(tmp_path / "rows.jsonl"),
        "evaluation_data_uri": f"file://{tmp_path}/rows.jsonl",
        "base_model_uri": str(tmp_path / "nothing"),
        "catalog_uri": "gs://b/rows.toml",
        "evaluation_output_root_dir": str(tmp_path / "out/here"),
    }
    run, downloads = Mount(str(tmp_path / "r"), writable=True), Mount(str(tmp_path / "home/downloads"), writable=True)
    expected = {run, downloads, Mount(str(tmp_path / "rows.jsonl")), Mount(str(tmp_path / "out/here"), writable=True)}
    assert set(run_mounts(tmp_path / "r", tmp_path / "home", uris, ["python", "-m", "tuneline.steps.tune_model"])) == expected
    assert (tmp_path / "out/here").is_dir()
    registry = Mount(str(tmp_path / "home/models"), writable=True)
    assert set(run_mounts(tmp_path / "r", tmp_path / "home", uris, ["python", "-m", "tuneline.steps.upload_model"])) == expected | {registry}


def test_what_is_registered_is_read_by_those_that_compare_and_written_by_those_that_register(tmp_path: Path) -> None:
    (tmp_path / "home/models").mkdir(parents=True)
    seen = {
        step: [mount for mount in run_mounts(tmp_path / "r", tmp_path / "home", {}, ["python", "-m", f"tuneline.steps.{step}"]) if "models" in mount.path]
        for step in ("validate_parameters", "transform_dataset", "tune_model", "evaluate_model", "select_checkpoint", "upload_model")
    }
    registry = str(tmp_path / "home/models")
    assert seen.pop("upload_model") == [Mount(registry, writable=True)]
    assert seen.pop("select_checkpoint") == []
    assert list(seen.values()) == [[Mount(registry)]] * 4


def test_what_is_not_a_file_or_folder_here_is_left_to_the_task(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    assert readable([str(tmp_path / "no"), "gs://b/x", "", "relative", "/dev/null", str(tmp_path / "link")]) == [Mount(str(tmp_path / "link"))]


def test_a_path_is_mounted_once_and_never_the_root() -> None:
    assert merged([Mount("/b/c"), Mount("/b/c/", writable=True), Mount("/b"), Mount("/"), Mount("/b/../b")]) == [Mount("/b"), Mount("/b/c", writable=True)]


def test_credentials_are_mounted_for_cloud_storage_only(tmp_path: Path) -> None:
    named = tmp_path / "key.json"
    environment = {"GOOGLE_APPLICATION_CREDENTIALS": str(named)}
    assert credentials(["gs://b/x"], environment, tmp_path) == ""
    named.touch()
    assert credentials(["gs://b/x"], environment, tmp_path) == str(named)
    assert credentials(["/x", "hf://a/b"], environment, tmp_path) == ""
    default = tmp_path / ".config/gcloud/application_default_credentials.json"
    default.parent.mkdir(parents=True)
    default.touch()
    assert credentials(["gs://b/x"], {}, tmp_path) == str(default)
