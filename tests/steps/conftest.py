"""The stub of Google's APIs, for steps that ask them."""

from tests.vertex.conftest import api, shared_stub  # noqa: F401 (fixtures)
