"""What the container tests share: the engine, the images, and one run of each template on the embedded engine to compare with.

Run them with `make container-test`. What this machine lacks is a plain message; where CI or TUNELINE_REQUIRE_CONTAINERS is set it is a failure.
"""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import docker
import pytest

from components import images as declared
from tests.containers.reference import Reference, run_reference
from tests.containers.sandbox import Sandbox
from tests.containers.stock_kfp import KfpRun, run_under_kfp


@dataclass(frozen=True, kw_only=True)
class Images:
    """The images under the names that the templates use."""

    base: str = declared.BASE
    tuner: str = declared.TUNER
    predictor: str = declared.BASE.replace("/base:", "/predictor:")


def unavailable(reason: str) -> NoReturn:
    """End the test: what is missing fails where containers are required."""
    if os.environ.get("CI", "").lower() == "true" or os.environ.get("TUNELINE_REQUIRE_CONTAINERS"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def docker_client() -> Iterator[docker.DockerClient]:
    """The engine at DOCKER_HOST."""
    try:
        client = docker.from_env(timeout=300)
    except docker.errors.DockerException as error:
        unavailable(f'No container engine answers at DOCKER_HOST ({error}). Start one: eval "$(tests/containers/engine up)"')
    with contextlib.closing(client):
        yield client


@pytest.fixture(scope="session")
def images(docker_client: docker.DockerClient) -> Images:
    """All images, built."""
    names = Images()
    for name in (names.base, names.tuner, names.predictor):
        try:
            docker_client.images.get(name)
        except docker.errors.ImageNotFound:
            unavailable(f"The engine has no image {name}. Build the images: make images")
    return names


@pytest.fixture(scope="session")
def sandbox(docker_client: docker.DockerClient) -> Iterator[Sandbox]:
    """Starts containers; at the end of the session none of them may be left."""
    sandbox = Sandbox(docker_client)
    yield sandbox
    assert sandbox.left_behind() == []


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Reference]:
    """Template name -> its run on the embedded engine, which happens once in a session."""
    return functools.cache(lambda template: run_reference(template, tmp_path_factory.mktemp(f"reference-{template}")))


@pytest.fixture(scope="session")
def kfp_run(images: Images, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], KfpRun]:
    """Template name -> its run under stock KFP in containers, which happens once in a session."""
    return functools.cache(lambda template: run_under_kfp(template, tmp_path_factory.mktemp(f"kfp-{template}"), sandbox.labels))
