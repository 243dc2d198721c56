"""What Vertex tells a prediction container by environment variables (AIP_...), with the values that hold where nothing is said. Standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass

from tuneline.errors import UsageError
from tuneline.registry.endpoints import HEALTH_ROUTE

DEFAULT_PORT = 8080
PREDICT_ROUTE = "/predict"
LARGEST_PORT = 65535


@dataclass(frozen=True, kw_only=True)
class VertexEnvironment:
    """The part of the container contract that concerns a server."""

    http_port: int
    health_route: str
    predict_route: str
    storage_uri: str | None
    """Nothing where it is not set; empty where Vertex knows of no files."""
    endpoint_id: str
    deployed_model_id: str

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "VertexEnvironment":
        return cls(
            http_port=_port(environment.get("AIP_HTTP_PORT", "")),
            health_route=route(environment.get("AIP_HEALTH_ROUTE", ""), HEALTH_ROUTE),
            predict_route=route(environment.get("AIP_PREDICT_ROUTE", ""), PREDICT_ROUTE),
            storage_uri=environment.get("AIP_STORAGE_URI"),
            endpoint_id=environment.get("AIP_ENDPOINT_ID", ""),
            deployed_model_id=environment.get("AIP_DEPLOYED_MODEL_ID", ""),
        )


def route(given: str, default: str) -> str:
    """The route with its leading slash, or the default when there is none."""
    return f"/{given.strip().lstrip('/')}" if given.strip().strip("/") else default


def _port(given: str) -> int:
    if not given.strip():
        return DEFAULT_PORT
    try:
        port = int(given)
    except ValueError:
        port = -1
    if not 0 <= port <= LARGEST_PORT:
        raise UsageError(f"AIP_HTTP_PORT: found {given!r}; expected a number from 0 to {LARGEST_PORT}.")
    return port
