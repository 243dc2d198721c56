"""A cluster's ConfigMaps, and the pod's registry in them."""

from collections.abc import Callable, Iterator

import pytest

from tests.kubernetes.fake_config_maps import NAMESPACE, FakeConfigMaps, config_maps
from tests.vertex.stub_api import FakeTime
from tuneline.kubernetes.model_registry import ModelRegistry
from tuneline.vertex.backoff import Backoff

OpenRegistry = Callable[..., ModelRegistry]


@pytest.fixture
def cluster() -> Iterator[tuple[FakeConfigMaps, OpenRegistry]]:
    """The ConfigMaps, and what opens the registry of a model in them."""
    with config_maps() as (maps, client):

        def registry(project: str = "acme", display_name: str = "My model", *, attempts: int = 3) -> ModelRegistry:
            backoff = Backoff(attempts=attempts, first_seconds=0.0)
            return ModelRegistry(project=project, display_name=display_name, client=client, namespace=NAMESPACE, backoff=backoff, clock=FakeTime().clock)

        yield maps, registry


@pytest.fixture
def maps(cluster: tuple[FakeConfigMaps, OpenRegistry]) -> FakeConfigMaps:
    return cluster[0]


@pytest.fixture
def registry(cluster: tuple[FakeConfigMaps, OpenRegistry]) -> OpenRegistry:
    return cluster[1]
