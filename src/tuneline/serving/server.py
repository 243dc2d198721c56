"""The endpoint as a process: `python -m tuneline.serving.server --model-path DIR --port 0`.

Without flags it takes what Vertex gives a prediction container: AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE, AIP_STORAGE_URI.
It ends by SIGTERM, by itself when nobody has asked it anything for the idle timeout, and with 13 when the model can answer no more.
"""

import argparse
import asyncio
import concurrent.futures
import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from tuneline.errors import InfrastructureError, TunelineError
from tuneline.registry import endpoints, home
from tuneline.registry.endpoints import ServerReport, State
from tuneline.registry.processes import ProcessIdentity
from tuneline.serving.container import settle
from tuneline.serving.server_options import LOOPBACK, read_options

if TYPE_CHECKING:
    from tuneline.serving.predictor import Predictor

logger = logging.getLogger("tuneline.serving")

GRACE_SECONDS = 5
"""For answers in the making, when the server is told to stop. The engine's own end comes on top."""
CHECK_SECONDS = 0.25
"""How often it looks whether it has been idle long enough, and whether the engine is healthy."""


def main(argv: Sequence[str], environment: Mapping[str, str]) -> int:
    """Serve until told to stop. The exit code is 0 then, or that of the error that prevented it."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        _serve_endpoint(read_options(argv, environment), stop)
    except TunelineError as error:
        logger.error("%s %s", str(error).replace("\n", " "), error.next_action)
        return error.exit_code
    except Exception:
        logger.exception("a bug of ours")
        return TunelineError.exit_code
    return 0


def _serve_endpoint(options: argparse.Namespace, stop: threading.Event) -> None:
    """Serve, and keep the endpoint's record if it is one of this machine's. A container on Vertex has an endpoint id and no record."""
    settle()
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
    import uvicorn

    from tuneline.serving.app import create_app
    from tuneline.serving.service import FAILED, Service

    service = Service(
        endpoint_id=options.endpoint_id or options.vertex.endpoint_id,
        deployed_model_id=options.vertex.deployed_model_id or options.endpoint_id,
        model_resource_name=options.model_resource_name,
        display_name=options.display_name,
    )
    hosts = LOOPBACK if options.host in LOOPBACK else None
    routes = {"predict_route": options.predict_route, "health_route": options.health_route}
    app = create_app(service, hosts=hosts, max_body_bytes=options.max_body_bytes, **routes)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=GRACE_SECONDS))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    loading = _in_thread(lambda: _load(options))
    either: set[asyncio.Future[Any]] = {serving, loading}
    reason = "told to stop"
    try:
        while not loading.done():
            if serving.done() or stop.is_set():
                return reason
            await asyncio.wait(either, timeout=CHECK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        service.predictor = loading.result()
        service.touch()
        if not serving.done():
            is_ready()
        while not serving.done() and not stop.is_set():
            if not service.predictor.is_healthy:
                raise InfrastructureError(FAILED)
            if 0 < options.idle_timeout < service.idle_seconds:
                reason = f"idle for {options.idle_timeout:.0f} s"
                break
            await asyncio.wait({serving}, timeout=CHECK_SECONDS)
    finally:
        server.should_exit = True
        await serving  # those who wait get their 503 first
        if service.predictor:
            service.predictor.close()
    return reason


def _load(options: argparse.Namespace) -> "Predictor":
    """The model, after its files have been checked against their hashes."""
    from tuneline.serving.model_files import find_model

    model = find_model(options.model_path, base_model=options.base_model, downloads=home() / "downloads")
    import torch

    from tuneline.serving.loading import load_predictor

    torch.set_num_threads(options.threads)
    return load_predictor(model)


def _in_thread(work: "Callable[[], Predictor]") -> "asyncio.Future[Predictor]":
    """The work's result. Unlike those of asyncio's own threads, nobody waits for it at the end."""
    future: concurrent.futures.Future[Predictor] = concurrent.futures.Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:  # whoever waits gets it
            future.set_exception(error)

    threading.Thread(target=run, name="loader", daemon=True).start()
    return asyncio.wrap_future(future)


def end_process(exit_code: int) -> NoReturn:
    """End at once. Nothing is left to be saved, but tearing down the libraries takes seconds, and may crash under a model that is still being loaded."""
    for child in multiprocessing.active_children():
        child.kill()
    logging.shutdown()
    os._exit(exit_code)


if __name__ == "__main__":
    end_process(main(sys.argv[1:], os.environ))
