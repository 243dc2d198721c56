"""Requests go to the model's own server, by HTTP on this machine; answers and errors come back as that server gives them.

A server that has ended by itself is started again for the request that finds it so. Whoever else comes meanwhile waits for the same start.
"""

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TypeVar

import httpx2
from fastapi import Request
from starlette.concurrency import run_in_threadpool

from tuneline.api.faults import Fault
from tuneline.api.resources.prediction_targets import Target
from tuneline.registry import endpoints as registry

START_SECONDS = 120.0
"""How long a request waits for a server that is being started."""
TIMEOUT = httpx2.Timeout(600.0, connect=5.0)
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Making one costs more than many a prediction, and no server here speaks TLS."""
T = TypeVar("T")

_starting: dict[str, "Future[str]"] = {}
_starting_lock = threading.Lock()


async def ask(request: Request, target: Target, path: str, content: bytes) -> httpx2.Response:
    """The whole answer of the model's server. Given up when the client goes away."""

    async def work() -> httpx2.Response:
        async with answering(target, path, content) as response:
            await response.aread()
            return response

    return await _until_disconnected(request, work())


@asynccontextmanager
async def answering(target: Target, path: str, content: bytes) -> AsyncIterator[httpx2.Response]:
    """The answer of the model's server, whose content has not been read yet."""
    async with httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport(verify=_NO_TLS), timeout=TIMEOUT) as client:
        try:
            try:
                response = await _send(client, await _address(target), path, content)
            except httpx2.ConnectError:  # it ended just now
                response = await _send(client, await _started(target), path, content)
            try:
                yield response
            finally:
                await response.aclose()
        except httpx2.HTTPError as error:
            raise Fault("UNAVAILABLE", f"the server of {target.display_name!r} gave no answer ({type(error).__name__}); try again.") from None


async def _send(client: httpx2.AsyncClient, url: str, path: str, content: bytes) -> httpx2.Response:
    asked = client.build_request("POST", f"{url}{path}", content=content, headers={"Content-Type": "application/json"})
    return await client.send(asked, stream=True)


async def _address(target: Target) -> str:
    endpoint = await run_in_threadpool(registry.get, target.server_id)
    return endpoint.url if endpoint is not None and endpoint.state == "RUNNING" else await _started(target)


async def _started(target: Target) -> str:
    """The address of the server once it is healthy."""
    with _starting_lock:
        start = _starting.get(target.server_id)
        if start is None:
            start = _starting[target.server_id] = Future()
            threading.Thread(target=_start, args=(target, start), name="starting a server", daemon=True).start()
    try:
        return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(start)), START_SECONDS)
    except TimeoutError:
        raise Fault("UNAVAILABLE", f"the server of {target.display_name!r} is still loading its model; try again in a moment.") from None


def _start(target: Target, start: "Future[str]") -> None:
    try:
        endpoint = registry.start(asdict(target.deployment)) if target.deployment else registry.restart(target.server_id)
        url, problem = endpoint.url, None
    except Exception as error:
        url, problem = "", error
    with _starting_lock:
        del _starting[target.server_id]
    if problem is None:
        start.set_result(url)
    else:
        start.set_exception(problem)


async def _until_disconnected(request: Request, work: Awaitable[T]) -> T:
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Fault("CANCELLED", "the client has gone.", http_status=499)
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
