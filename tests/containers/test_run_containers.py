"""`tuneline run --containers`: the embedded engine puts its tasks into the project's images, on the engine that this machine has."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from tests.containers.conftest import Images, unavailable
from tests.containers.reference import ENVIRONMENT, WITHOUT_GPU, Reference, assert_equal_outputs, run_reference, stage
from tests.local.fake_pipelines import eventually, states
from tuneline.errors import UserError
from tuneline.local.container_engine import find_engine, identify_images
from tuneline.local.containers import ENGINES, RUN_LABEL, EngineName

SECONDS = 120


@pytest.fixture(scope="module")
def engines(images: Images) -> list[EngineName]:
    """The command lines of this machine that have the images: with a Podman that serves Docker's interface, both."""
    found: list[EngineName] = []
    for name in ENGINES:
        try:
            engine = find_engine(name)
            identify_images(engine, [images.base, images.tuner], print)
        except UserError:
            continue
        found.append(engine.name)
    if not found:
        unavailable("Neither the docker nor the podman command line finds the images that are at DOCKER_HOST.")
    return list(dict.fromkeys(found))


@pytest.fixture(autouse=True)
def nothing_left(docker_client: docker.DockerClient) -> Iterator[None]:
    """No container of a run outlives the test."""
    before = {container.id for container in contained(docker_client)}
    yield
    assert [container.name for container in contained(docker_client) if container.id not in before] == []


def contained(client: docker.DockerClient) -> list[docker.models.containers.Container]:
    found: list[docker.models.containers.Container] = client.containers.list(all=True, filters={"label": RUN_LABEL}, ignore_removed=True)
    return found


def test_a_run_in_containers_equals_one_in_processes(engines: list[EngineName], reference: Callable[[str], Reference], tmp_path: Path) -> None:
    run = run_reference("tune-large-model", tmp_path, "--containers", "--container-engine", engines[0])
    assert_equal_outputs(run.outputs, reference("tune-large-model").outputs)
    record = json.loads(Path(str(run.answer["run_dir"]), "run.json").read_text(encoding="utf-8"))["containers"]
    assert record["engine"] == engines[0]
    assert all(identifier.startswith("sha256:") for identifier in record["images"].values())
    assert run.outputs.checkpoints.stat().st_uid == os.getuid()


def test_a_signal_reaches_the_trainer_and_nothing_is_left_running(engines: list[EngineName], docker_client: docker.DockerClient, tmp_path: Path) -> None:
    first = start(tmp_path, "tune-large-model", *flags(tmp_path), "--name", "r", "--containers", "--container-engine", engines[-1])
    log = tmp_path / "runs/r/logs/tune-model.log"
    wait(first, lambda: trained_steps(attempt(tmp_path, 1)) > 1)
    assert len(contained(docker_client)) == 1
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=SECONDS)
    assert first.returncode == 75, told
    assert states(tmp_path / "runs/r")["tune-model"] == "CANCELLED"
    assert list(attempt(tmp_path, 1).rglob("checkpoint-*/COMMIT.json"))
    assert contained(docker_client) == []

    second = start(tmp_path, "--resume", "r")
    wait(second, lambda: "resume_from_step=" in log.read_text(encoding="utf-8"))
    second.kill()
    second.communicate(timeout=SECONDS)
    eventually(lambda: contained(docker_client) == [])


def flags(folder: Path) -> list[str]:
    """A tuning that would take long."""
    parameters = {**stage("tune-large-model", folder / "data"), "train_steps": 5000, "evaluation_interval": 5000, "upload_model": "false"}
    return [part for name, value in parameters.items() for part in (f"--{name.replace('_', '-')}", str(value))]


def start(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, **ENVIRONMENT, **WITHOUT_GPU, "TUNELINE_HOME": str(folder / "home")}
    command = [sys.executable, "-m", "tuneline.cli", "run", *arguments, "--runs-dir", str(folder / "runs"), "--json", "--grace", "100"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait(process: "subprocess.Popen[str]", holds: Callable[[], bool]) -> None:
    """Wait for something that a run does; a run that ends instead is shown."""
    eventually(lambda: process.poll() is not None or holds(), SECONDS)
    assert process.poll() is None, process.communicate()


def attempt(folder: Path, number: int) -> Path:
    return folder / f"runs/r/tasks/tune-model/attempt-{number}"


def trained_steps(folder: Path) -> int:
    try:
        progress = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return 0
    return int(progress["completed"]) if progress["activity"] == "tuning" else 0
