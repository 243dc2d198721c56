"""`tuneline submit` and `tuneline jobs` against the tuning service itself, behind a real socket."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.api.conftest import TRAINING_DATA
from tests.api.endpoint_bench import listening
from tests.local.fake_pipelines import Fake, write
from tuneline import remote_job
from tuneline.api.app import create_app
from tuneline.api.jobs import Runner
from tuneline.api.service import Service
from tuneline.api.settings import Settings
from tuneline.cli import main
from tuneline.vertex.rest import ENDPOINT

PLACE = ["--project", "proj", "--pipeline-region", "us-central1"]
ROOT = ["--pipeline-root", "gs://bucket/out"]
MODEL = "projects/proj/locations/us-central1/models/7@1"


@pytest.fixture(autouse=True)
def address(service: Service, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The service's address, where commands of this test go."""
    with listening(create_app(service)) as address:
        monkeypatch.setenv(ENDPOINT, address)
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setattr(remote_job, "POLL_SECONDS", 0.05)
        yield address


@pytest.fixture
def bucket(settings: Settings) -> Path:
    """A bucket with little data."""
    folder = settings.buckets / "bucket"
    folder.mkdir(parents=True)
    lines = TRAINING_DATA.read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "good.jsonl").write_text("".join(lines[:12]), encoding="utf-8")
    (folder / "bad.jsonl").write_text('{"input_text": "a", "output_text": "b"}\n{"input_text": "a"}\n' * 10, encoding="utf-8")
    return folder


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """A template of two tasks that say at once what a tuning job says in the end."""
    named = Fake(script=f"open(given['model'], 'w').write({MODEL!r})", puts={"model": "STRING"}, after=["first"])
    return str(write(tmp_path / "quick.yaml", {"first": Fake(script="pass"), "upload-model": named}, outputs={"model_resource_name": "upload-model.model"}))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    """What `tuneline jobs` answers to a program."""
    capsys.readouterr()
    assert main(["jobs", *arguments, "--json"]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


def test_a_job_is_submitted_watched_shown_and_listed(quick: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["submit", quick, *PLACE, *ROOT, "--job-id", "mine", "--labels", "team=a"]) == 0
    told = capsys.readouterr()
    assert f"model     {MODEL}" in told.out
    assert [line.split()[0] for line in told.err.splitlines() if "succeeded" in line] == ["first", "upload-model"]
    job = shown(capsys, "show", "mine", *PLACE)
    assert (job["state"], job["model_resource_name"]) == ("PIPELINE_STATE_SUCCEEDED", MODEL)
    for flags in ([], ["--state", "succeeded"], ["--label", "team=a"], ["--label", "tuneline-version"], ["--display-name", "mine"]):
        listed = shown(capsys, "list", *PLACE, *flags)["jobs"]
        assert isinstance(listed, list)
        assert [entry["job"] for entry in listed] == ["projects/proj/locations/us-central1/pipelineJobs/mine"], flags
    assert shown(capsys, "list", *PLACE, "--state", "failed")["jobs"] == []
    assert main(["submit", quick, *PLACE, *ROOT, "--job-id", "mine", "--no-wait"]) == 1
    assert "exists already. Give another --job-id" in capsys.readouterr().err.replace("\n", " ")


def test_bad_data_is_the_user_s_error_with_its_lines(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["tune-large-model", *PLACE, *ROOT, "--dataset-uri", "gs://bucket/bad.jsonl", "--large-model-reference", "code-bison@002", "--train-steps", "1"]
    assert main(["submit", *job]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "transform-dataset: " in told.err
    assert "bad.jsonl:2" in told.err


def test_data_that_the_service_does_not_have_is_told_before_a_job_is_made(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["tune-large-model", *PLACE, *ROOT, "--dataset-uri", "gs://bucket/gone.jsonl", "--large-model-reference", "code-bison@002"]
    assert main(["submit", *job]) == 1
    assert "there is no object gs://bucket/gone.jsonl" in capsys.readouterr().err
    assert shown(capsys, "list", *PLACE)["jobs"] == []


def test_in_the_region_local_a_path_of_the_service_s_machine_is_as_good_as_a_bucket(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = ["--project", "proj", "--pipeline-region", "local", *ROOT]
    job = ["tune-large-model", *place, "--dataset-uri", str(bucket / "bad.jsonl"), "--large-model-reference", "code-bison@002", "--train-steps", "1"]
    assert main(["submit", *job]) == 1
    assert "bad.jsonl:2" in capsys.readouterr().err


def test_what_the_service_refuses_is_told_with_its_reasons(bucket: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = ["tune-large-model", *PLACE, *ROOT, "--dataset-uri", "gs://bucket/good.jsonl", "--large-model-reference", "code-bison@002"]
    assert main(["submit", *job, "--tensorboard-resource-id", "projects/proj/locations/us-central1/tensorboards/9"]) == 1
    assert "tensorboards/9 does not exist here" in capsys.readouterr().err


def test_a_running_job_is_cancelled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    started = tmp_path / "started"
    endless = write(tmp_path / "endless.yaml", {"wait": Fake(script=f"pathlib.Path({str(started)!r}).touch(); time.sleep(3600)")})
    assert main(["submit", str(endless), *PLACE, *ROOT, "--job-id", "mine", "--no-wait"]) == 0
    deadline = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    while shown(capsys, "show", "mine", *PLACE)["state"] != "PIPELINE_STATE_RUNNING":  # the queue looks a moment later
        assert time.monotonic() < deadline
    assert main(["jobs", "cancel", "mine", *PLACE, "--wait"]) == 0
    assert capsys.readouterr().out.endswith("pipelineJobs/mine  CANCELLED\n")
    assert main(["jobs", "cancel", "mine", *PLACE]) == 0


def test_twenty_submissions_at_once_are_twenty_jobs(quick: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(Runner, "_start", lambda _self, _job_id: None)
    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(lambda _: main(["submit", quick, *PLACE, *ROOT, "--no-wait"]), range(20)))
    assert codes == [0] * 20
    names = capsys.readouterr().out.split()
    assert len(set(names)) == 20
    listed = shown(capsys, "list", *PLACE)["jobs"]
    assert isinstance(listed, list)
    assert {entry["job"] for entry in listed} == set(names)
    moments = {name.split("-")[-2] for name in names}
    assert len(moments) < 20, "jobs of one second"
