"""What all routes of the storage API share: paths with encoded slashes, bodies, and errors in Cloud Storage's form."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match
from starlette.types import Scope

from tuneline.api import strict_json
from tuneline.api.faults import Fault
from tuneline.api.gcs.draft import CHUNK_BYTES
from tuneline.api.gcs.faults import StorageFault, fault_of, invalid

LOG = logging.getLogger(__name__)
CANCELLED = 499
"""Cloud Storage's answer to a cancelled upload; also noted for a client that has gone."""
MAX_DRAINED_BYTES = 64 << 20
MAX_JSON_BYTES = 1 << 20

Name = Annotated[str, AfterValidator(lambda text: unquote(text, errors="strict"))]
"""A part of the path: the name of a bucket or an object. Its slashes come as %2F."""


class StorageRoute(APIRoute):
    """A route whose path is matched as it was sent, so that `o/a%2Fcopy` is an object's name and `o/a/copy` is none."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        raw = scope.get("raw_path")
        return super().matches({**scope, "path": raw.decode("ascii", "replace")} if raw else scope)

    def get_route_handler(self) -> Callable[[Request], Awaitable[Response]]:  # type: ignore[override]  # a coroutine function is one
        handler = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except StorageFault as fault:
                return refusal(fault)
            except Fault as fault:  # of the service around this API: a body that is too long
                return refusal(StorageFault(fault.http_status, "invalid", str(fault)))
            except RequestValidationError:
                return refusal(invalid(f"{request.scope['path']}: a name in it is not UTF-8."))
            except ClientDisconnect:
                return Response(status_code=CANCELLED)
            except OSError as error:
                LOG.exception("%s %r", request.method, request.scope["path"])
                return refusal(fault_of(error))
            except Exception:
                LOG.exception("%s %r", request.method, request.scope["path"])
                return refusal(StorageFault(500, "internalError", "This is a bug of Tuneline; the service's log has it."))

        return answer


def refusal(fault: StorageFault) -> Response:
    return Response(status_code=304) if fault.code == 304 else JSONResponse(fault.to_json(), status_code=fault.code)


async def unknown(request: Request, error: Exception) -> Response:
    """The answer to a method or path that there is not. For a framework's exception handler."""
    code = error.status_code if isinstance(error, HTTPException) else 404
    return refusal(StorageFault(code, "notFound", f"{request.method} {request.scope['path']}: there is no such method here."))


def address(request: Request) -> str:
    """The service's, as the client called it."""
    return str(request.base_url).rstrip("/")


async def json_body(request: Request) -> dict[str, Any]:
    """A small JSON object; nothing counts as an empty one."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_JSON_BYTES:
            raise StorageFault(413, "uploadTooLarge", f"body: found more than {MAX_JSON_BYTES} bytes; expected at most that many.")
    return read_json(bytes(body))


def read_json(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        value = strict_json.read_json(body)
    except ValueError:
        raise StorageFault(400, "parseError", "body: it is not JSON.") from None
    if not isinstance(value, dict):
        raise invalid("body: expected a JSON object.")
    return value


def text_of(body: Mapping[str, Any], key: str) -> str:
    """A field that must be text; nothing counts as empty."""
    value = body.get(key, "")
    if not isinstance(value, str):
        raise invalid(f"{key}: expected a string.")
    return value


async def chunks(stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A body in pieces that are worth a thread's while. What a client sent before it went away comes, too."""
    held = bytearray()
    try:
        async for piece in stream:
            held += piece
            if len(held) >= CHUNK_BYTES:
                yield bytes(held)
                held.clear()
    except ClientDisconnect:
        yield bytes(held)
        raise
    yield bytes(held)


async def drain(request: Request) -> None:
    """Read on to the end: a client that is still sending when the connection closes never sees the answer."""
    size = 0
    with suppress(RuntimeError):  # what has been read to the end cannot be read again
        async for piece in request.stream():
            size += len(piece)
            if size > MAX_DRAINED_BYTES:
                return
