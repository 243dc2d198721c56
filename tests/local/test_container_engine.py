"""Which engine is taken, and what it says of itself."""

from pathlib import Path

import pytest

from tests.local.fake_engine import DOCKER_INFO, PODMAN_INFO, fake_engine
from tuneline.errors import UserError
from tuneline.local.container_engine import docker_facts, find_engine, names_registry, podman_facts
from tuneline.local.containers import ContainerEngine


@pytest.fixture(autouse=True)
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with no container engine but those of the test."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_docker_is_taken_when_its_daemon_answers_else_podman(tmp_path: Path, programs: Path) -> None:
    with fake_engine(tmp_path / "docker", programs) as docker, fake_engine(tmp_path / "podman", programs, "podman"):
        assert find_engine().name == "docker"
        assert find_engine("podman").name == "podman"
        docker.set("down", "")
        assert find_engine().name == "podman"
        with pytest.raises(UserError, match=r"docker: Cannot connect to the daemon"):
            find_engine("docker")


def test_without_an_engine_the_error_says_what_to_install() -> None:
    with pytest.raises(UserError) as error:
        find_engine()
    assert [problem.partition(":")[0] for problem in error.value.problems[1:]] == ["docker", "podman"]
    assert "install Podman" in error.value.next_action


def test_a_docker_that_is_podman_is_called_podman(tmp_path: Path, programs: Path) -> None:
    with fake_engine(tmp_path / "engine", programs) as engine:
        engine.set("info", PODMAN_INFO)
        with pytest.raises(UserError, match="docker: is another program"):
            find_engine("docker")
        (programs / "podman").symlink_to(programs / "docker")
        assert find_engine("docker").name == "podman"


def test_an_engine_says_what_it_can_do_here() -> None:
    assert docker_facts(DOCKER_INFO) == ContainerEngine(name="docker", has_init=True)
    special = {"SecurityOptions": ["name=rootless", "name=userns", "name=selinux"], "InitBinary": ""}
    assert docker_facts(special) == ContainerEngine(name="docker", rootless=True, remapped=True, labels_files=True, enforces=frozenset())
    facts = podman_facts(PODMAN_INFO, has_init=False)
    assert facts == ContainerEngine(name="podman", rootless=True, labels_files=True, enforces=frozenset({"memory", "pids"}))


@pytest.mark.parametrize(
    ("reference", "named"),
    [
        ("tuneline/base:0.1.0", False),
        ("python", False),
        ("registry.example.com/team/tuneline/base:0.1.0", True),
        ("localhost/base", True),
        ("host:5000/base", True),
    ],
)
def test_an_image_that_names_no_registry_is_not_looked_for_in_one(reference: str, named: bool) -> None:
    assert names_registry(reference) is named
