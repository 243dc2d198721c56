"""The endpoint as a process: `python -m tuneline.serving.server --model-path DIR --port 0`.

Without flags it takes what Vertex gives a prediction container: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, AIP_STORAGE_URI.
It ends by SIGTERM, or by itself when nobody has asked it anything for the idle timeout.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tuneline.errors import InfrastructureError, TunelineError, UsageError
from tuneline.registry import endpoints, home
from tuneline.registry.endpoints import HEALTH_ROUTE, ServerReport, State
from tuneline.registry.processes import ProcessIdentity

if TYPE_CHECKING:
    from tuneline.serving.predictor import Predictor

logger = logging.getLogger("tuneline.serving")

LOOPBACK = ("127.0.0.1", "localhost", "::1")
GRACE_SECONDS = 5
"""For answers in the making, when the server is told to stop."""
CHECK_SECONDS = 0.25
"""How often it looks whether it has been idle long enough."""


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until told to stop. The exit code is 0 then, or that of the error that prevented it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _serve_endpoint(_read_options(argv, environment), stop)
    except TunelineError as error:
        logger.error("%s %s", str(error).replace("\n", " "), error.next_action)
        return error.exit_code
    return 0


def _read_options(argv: Sequence[str], environment: Mapping[str, str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tuneline.serving.server", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-path", default=environment.get("AIP_STORAGE_URI", ""), help="folder or gs:// URI of the model (AIP_STORAGE_URI)")
    parser.add_argument("--host", default=LOOPBACK[0], help="address to listen on; any but a loopback address opens the model to the network")
    parser.add_argument("--port", type=int, default=int(environment.get("AIP_HTTP_PORT", "8080")), help="port to listen on; 0 takes a free one")
    parser.add_argument("--health-route", default=environment.get("AIP_HEALTH_ROUTE", HEALTH_ROUTE))
    parser.add_argument("--predict-route", default=environment.get("AIP_PREDICT_ROUTE", "/predict"))
    parser.add_argument("--idle-timeout", type=float, default=0.0, help="seconds without a request after which the server ends; 0 for never")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2), help="CPU threads")
    parser.add_argument("--endpoint-id", default=environment.get("AIP_ENDPOINT_ID", ""), help="endpoint of this machine that is served")
    parser.add_argument("--endpoint-resource-name", default="")
    parser.add_argument("--model-resource-name", default="")
    parser.add_argument("--display-name", default="")
    options = parser.parse_args(argv)
    if not options.model_path:
        raise UsageError("--model-path is missing, and AIP_STORAGE_URI is not set.")
    return options


def _serve_endpoint(options: argparse.Namespace, stop: threading.Event) -> None:
    """Serve, and keep the endpoint's record if it has one."""
    claim = endpoints.claim(options.endpoint_id) if options.endpoint_id else None
    if options.endpoint_id and claim is None:
        raise InfrastructureError(f"endpoint {options.endpoint_id} is served by another process already.")
    with _listen(options.host, options.port) as listener:
        host, port = listener.getsockname()[:2]
        report = _reporter(options.endpoint_id, f"http://{host}:{port}")
        report("STARTING", "")
        try:
            reason = asyncio.run(_serve(options, listener, stop, lambda: report("RUNNING", "")))
        except TunelineError as error:
            report("STOPPED", str(error))
            raise
        report("STOPPED", reason)
        logger.info("stopped reason=%r", reason)


def _listen(host: str, port: int) -> socket.socket:
    if host not in LOOPBACK:
        logger.warning("listening on %s: everybody who reaches this address can use the model; there is no authentication here", host)
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise InfrastructureError(f"{host}:{port}: {error.strerror}.", next_action="Give another --port; 0 takes a free one.") from error


def _reporter(endpoint_id: str, url: str) -> Callable[[State, str], None]:
    process = ProcessIdentity.of(os.getpid())
    start_time = datetime.now(UTC).isoformat(timespec="milliseconds")

    def report(state: State, reason: str) -> None:
        logger.info("state=%s url=%s", state, url)
        if endpoint_id and process:
            endpoints.report_server(endpoint_id, ServerReport(state=state, process=process, url=url, start_time=start_time, reason=reason))

    return report


async def _serve(options: argparse.Namespace, listener: socket.socket, stop: threading.Event, is_ready: Callable[[], None]) -> str:
    """Answer from the start, with 503 until the model is loaded. Returns why it ended."""
    # Set before torch is loaded: spinning threads starve everything else on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import uvicorn

    from tuneline.serving.app import create_app
    from tuneline.serving.service import Service

    service = Service(endpoint_id=options.endpoint_id, model_resource_name=options.model_resource_name, display_name=options.display_name)
    hosts = LOOPBACK if options.host in LOOPBACK else None
    app = create_app(service, hosts=hosts, predict_route=options.predict_route, health_route=options.health_route)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_SECONDS))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    reason = "told to stop"
    try:
        service.predictor = await asyncio.to_thread(_load, options.model_path, options.threads)
        service.touch()
        if not serving.done():
            is_ready()
        while not serving.done() and not stop.is_set():
            if 0 < options.idle_timeout < service.idle_seconds:
                reason = f"idle for {options.idle_timeout:.0f} s"
                break
            await asyncio.wait({serving}, timeout=CHECK_SECONDS)
    finally:
        server.should_exit = True
        await serving
        if service.predictor:
            service.predictor.close()
    return reason


def _load(model_path: str, num_threads: int) -> "Predictor":
    """The model, after its files have been checked against their hashes."""
    from tuneline.data.base_model import locate
    from tuneline.modeling import checkpoints

    folder = locate(model_path, downloads=home() / "downloads")
    if (folder / checkpoints.COMMIT).exists():
        checkpoints.verify(folder)
    import torch

    from tuneline.serving.predictor import Predictor

    torch.set_num_threads(num_threads)
    return Predictor.load(folder)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
