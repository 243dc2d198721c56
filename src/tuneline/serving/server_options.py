"""The server's flags, with the defaults that come from the environment."""

import argparse
from collections.abc import Mapping, Sequence

from tuneline.errors import UsageError
from tuneline.serving.container import num_cores
from tuneline.serving.vertex_environment import VertexEnvironment, route

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MAX_BODY_BYTES = 1_500_000
"""As on Vertex's shared endpoints; dedicated ones take 10 MB."""


def read_options(argv: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    """The parsed flags; `vertex` holds what Vertex says. Raises `UsageError`."""
    vertex = VertexEnvironment.read(environment)
    parser = argparse.ArgumentParser(prog="python -m tuneline.serving.server", description="Serve one model over HTTP.")
    parser.add_argument("--model-path", default=vertex.storage_uri, help="folder, gs:// or hf:// URI of a model or a PEFT adapter (AIP_STORAGE_URI)")
    parser.add_argument("--base-model", default=environment.get("BASE_MODEL_ID", ""), help="an adapter's base model, where the adapter's own word will not do")
    parser.add_argument("--host", default=LOOPBACK[0], help="address to listen on; any but a loopback address opens the model to the network")
    parser.add_argument("--port", type=int, default=vertex.http_port, help="port to listen on; 0 takes a free one (AIP_HTTP_PORT)")
    parser.add_argument("--health-route", default=vertex.health_route, help="(AIP_HEALTH_ROUTE)")
    parser.add_argument("--predict-route", default=vertex.predict_route, help="(AIP_PREDICT_ROUTE)")
    parser.add_argument("--max-body-bytes", type=int, default=MAX_BODY_BYTES, help="longest request; 10000000 on a dedicated endpoint of Vertex")
    parser.add_argument("--idle-timeout", type=float, default=0.0, help="seconds without a request after which the server ends; 0 for never")
    parser.add_argument("--threads", type=int, default=_threads(environment), help="CPU threads (OMP_NUM_THREADS, else every core that it may use)")
    parser.add_argument("--endpoint-id", default="", help="endpoint of this machine's registry that is served")
    parser.add_argument("--endpoint-resource-name", default="")
    parser.add_argument("--model-resource-name", default="")
    parser.add_argument("--display-name", default="")
    options = parser.parse_args(argv)
    if not options.model_path:
        raise _no_model(vertex)
    options.health_route = route(options.health_route, vertex.health_route)
    options.predict_route = route(options.predict_route, vertex.predict_route)
    options.vertex = vertex
    return options


def _threads(environment: Mapping[str, str]) -> int:
    given = environment.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else num_cores()


def _no_model(vertex: VertexEnvironment) -> UsageError:
    if vertex.storage_uri is None:
        return UsageError("--model-path is missing, and AIP_STORAGE_URI is not set.")
    return UsageError(
        "AIP_STORAGE_URI is empty: the model was uploaded without artifact_uri.",
        next_action="Upload it with the gs:// URI of its files as artifact_uri, or give the container the argument --model-path.",
    )
