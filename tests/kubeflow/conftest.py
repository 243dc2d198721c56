"""The stub, in the place of Kubeflow Pipelines."""

from tests.vertex.conftest import api, shared_stub  # noqa: F401 (fixtures)
