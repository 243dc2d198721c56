"""From flags with paths to flags with URIs, and back."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tuneline.errors import ParameterError, UsageError
from tuneline.interface import path_fields, texts
from tuneline.staging.plan import plan, remote_arguments
from tuneline.steps import artifact_uri


@dataclass(frozen=True, kw_only=True)
class Files:
    """A step's."""

    seed: int = 0
    output_root_dir: str = ""
    dataset: Path
    output_model: Path
    output_gcp_resources: Path
    executor_output: Path


PATHS = path_fields(Files)
ARGV = [
    "--seed", "3.0", "--output-root-dir", "/gcs/mine", "--dataset", "/gcs/b/data", "--output-model", "/gcs/b/run/model",
    "--output-gcp-resources", "/tmp/pod/resources", "--executor-output=/tmp/pod/output.json",
]  # fmt: skip


def test_paths_become_uris_and_what_the_launcher_writes_itself_is_left_out() -> None:
    assert PATHS == ("dataset", "output_model", "output_gcp_resources", "executor_output")
    remote = remote_arguments(texts(ARGV, Files), PATHS, artifact_uri)
    assert remote == ("--seed", "3.0", "--output-root-dir", "/gcs/mine", "--dataset", "gs://b/data", "--output-model", "gs://b/run/model")


def test_the_job_gets_places_on_its_own_disk_for_all_paths() -> None:
    remote = remote_arguments(texts(ARGV, Files), PATHS, artifact_uri)
    planned = plan(texts(remote, Files), PATHS, Path("/disk"))
    local = texts(planned.arguments, Files)
    assert local == {"seed": "3.0", "output_root_dir": "/gcs/mine", **{name: f"/disk/{name}" for name in PATHS}}
    assert [(transfer.name, transfer.uri, str(transfer.path)) for transfer in planned.inputs] == [("dataset", "gs://b/data", "/disk/dataset")]
    assert [(transfer.uri, str(transfer.path)) for transfer in planned.outputs] == [("gs://b/run/model", "/disk/output_model")]
    assert planned.executor_output == Path("/disk/executor_output")


def test_all_paths_that_only_the_task_sees_are_named() -> None:
    flags = {"seed": "1", "dataset": "/minio/b/data", "output_model": "/tmp/model", "executor_output": "/tmp/e"}
    with pytest.raises(ParameterError) as caught:
        remote_arguments(flags, PATHS, artifact_uri)
    assert [problem.partition(";")[0] for problem in caught.value.problems] == [
        "--dataset: found 'minio://b/data'", "--output-model: found '/tmp/model'",
    ]  # fmt: skip
    assert "pipeline_root gs://" in caught.value.next_action


def test_a_job_without_one_of_its_files_says_which() -> None:
    with pytest.raises(UsageError, match="--output-model is missing"):
        plan({"dataset": "gs://b/data"}, PATHS, Path("/disk"))


@pytest.mark.parametrize(
    ("path", "uri"),
    [("/gcs/b/x", "gs://b/x"), ("/buckets/b/x", "gs://b/x"), ("/bucketsful/b/x", "/bucketsful/b/x"), ("/minio/b/x", "minio://b/x"), ("/tmp/x", "/tmp/x")],
)
def test_a_folder_of_buckets_is_a_mount(path: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", "/buckets/")
    assert artifact_uri(Path(path)) == uri
