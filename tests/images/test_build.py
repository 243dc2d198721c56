"""What the build decides and prints, and which engine it takes. Nothing is built here."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from images import build, engine
from images.engine import Engine, Image, find_engine
from images.roles import BASE, ROOT, TUNER
from tuneline import __version__
from tuneline.errors import InfrastructureError


def image(name: str, size_bytes: int, num_layers: int) -> Image:
    return Image(name=name, identity="sha256:00", size_bytes=size_bytes, num_layers=num_layers, created="1980-01-01T00:00:00Z", labels={})


def test_the_table_has_aligned_columns() -> None:
    built = [build.Built(image=image("a/short:1", 458_600_000, 4), seconds=6.25), build.Built(image=image("a/much-longer:1", 1_524_000_000, 12), seconds=104.0)]
    assert build.table(built).splitlines() == [
        "image            size (MB)  layers  build (s)",
        "a/short:1              459       4        6.2",
        "a/much-longer:1      1,524      12      104.0",
    ]


def test_build_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "cpu_index", lambda: "https://cpu.example.org")
    assert build.arguments_of(BASE, "cpu", "", {"PIP_EXTRA_INDEX_URL": "https://mine.example.org"}) == {}
    assert build.arguments_of(BASE, "cpu", "mirror/python:3.11", {}) == {"BASE_IMAGE": "mirror/python:3.11"}
    assert build.arguments_of(TUNER, "gpu", "", {}) == {"DEVICE": "gpu"}
    assert build.arguments_of(TUNER, "cpu", "", {}) == {"DEVICE": "cpu", "PIP_EXTRA_INDEX_URL": "https://cpu.example.org"}
    mine = build.arguments_of(TUNER, "cpu", "", {"PIP_EXTRA_INDEX_URL": "https://mine.example.org"})
    assert mine == {"DEVICE": "cpu", "PIP_EXTRA_INDEX_URL": "https://mine.example.org"}


def test_the_labels_are_version_and_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = build.labels()
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.revision"]
    monkeypatch.setattr(build, "ROOT", Path("/"))
    assert build.labels()["org.opencontainers.image.revision"] == "unknown"


def test_the_wheel_is_alone_and_the_same_each_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(build, "WHEELS", tmp_path)
    (tmp_path / "tuneline-0.0.1-py3-none-any.whl").write_bytes(b"an older one")
    contents = []
    for _ in range(2):
        build.make_wheel()
        (wheel,) = tmp_path.iterdir()
        contents.append(wheel.read_bytes())
    assert contents[0] == contents[1]
    names = zipfile.ZipFile(wheel).namelist()
    assert {"tuneline/steps/tune_model.py", "tuneline/embedded/templates/tune-large-model.yaml"} <= set(names)
    assert not any("__pycache__" in name for name in names)


def command(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    file.chmod(0o755)


DOCKER = 'echo "server Engine containerd "'
PODMAN_AS_DOCKER = 'echo "server Podman Engine Conmon "'
NO_SERVER = "exit 1"


@pytest.mark.parametrize(
    ("docker", "has_podman", "asked", "expected"),
    [
        (DOCKER, True, None, Engine(name="docker")),
        (DOCKER, True, "podman", Engine(name="podman")),
        (PODMAN_AS_DOCKER, True, None, Engine(name="podman")),
        (PODMAN_AS_DOCKER, True, "docker", Engine(name="docker", environment={"DOCKER_BUILDKIT": "0"})),
        (PODMAN_AS_DOCKER, False, None, Engine(name="docker", environment={"DOCKER_BUILDKIT": "0"})),
        (NO_SERVER, True, None, Engine(name="podman")),
        (None, True, None, Engine(name="podman")),
    ],
)
def test_the_engine_is_the_one_that_answers(
    docker: str | None, has_podman: bool, asked: engine.EngineName | None, expected: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if docker:
        command(tmp_path, "docker", docker)
    if has_podman:
        command(tmp_path, "podman", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_engine(asked) == expected


@pytest.mark.parametrize("asked", [None, "docker", "podman"])
def test_without_an_engine_it_says_what_to_do(asked: engine.EngineName | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "docker", NO_SERVER)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="No container engine") as raised:
        find_engine(asked)
    assert "install" in raised.value.next_action


@pytest.mark.parametrize(("name", "special"), [("podman", {"--format=docker", "--timestamp=315532800"}), ("docker", set())])
def test_a_build_is_told_everything(name: engine.EngineName, special: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = tmp_path / "record"
    command(tmp_path, name, f'printf "%s\\n" "$@" > {record}')
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    Engine(name=name).build(tmp_path / "Dockerfile", "a/b:1", {"DEVICE": "cpu"}, labels={"k": "v"}, context=tmp_path, use_cache=False)
    said = record.read_text(encoding="utf-8").splitlines()
    assert said[:5] == ["build", "--file", str(tmp_path / "Dockerfile"), "--tag", "a/b:1"]
    assert said[-1] == str(tmp_path)
    assert {*said[5:-1]} == {"--build-arg=DEVICE=cpu", "--label=k=v", "--no-cache", *special}


def test_a_build_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path, "docker", "exit 3")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="could not build a/b:1"):
        Engine(name="docker").build(tmp_path, "a/b:1", {}, labels={}, context=tmp_path)


def test_help_and_unknown_roles() -> None:
    python = [sys.executable, "-m", "images.build"]
    assert "predictor" in subprocess.run([*python, "--help"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    done = subprocess.run([*python, "tpu"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, "tpu" in done.stderr) == (2, True)
