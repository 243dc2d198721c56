"""`/batch/storage/v1`: several calls without content in one request, each answered as if it had come alone."""

import secrets
from http import HTTPStatus
from urllib.parse import unquote_to_bytes, urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.types import ASGIApp, Message

from tuneline.api.gcs.faults import StorageFault, invalid
from tuneline.api.gcs.multipart import parts_of
from tuneline.api.gcs.wire import StorageRoute

MAX_CALLS = 1000
"""What google-cloud-storage may send."""
MAX_BYTES = 10 << 20


def batch_routes(calls: ASGIApp) -> APIRouter:
    """`calls` answers the calls in a batch."""
    router = APIRouter(route_class=StorageRoute)

    @router.post("/batch/storage/v1")
    async def batch(request: Request) -> Response:
        body = bytearray()
        async for piece in request.stream():
            body += piece
            if len(body) > MAX_BYTES:
                raise StorageFault(413, "uploadTooLarge", f"body: found more than {MAX_BYTES} bytes; expected at most that many.")
        parts = parts_of(request.headers.get("content-type", ""), bytes(body))
        if len(parts) > MAX_CALLS:
            raise invalid(f"batch: found {len(parts)} calls; expected at most {MAX_CALLS}.")
        boundary = f"batch_{secrets.token_hex(16)}"
        answers = [await _answer(calls, request, identifier, content) for identifier, content in parts]
        lines = b"".join(b"--%s\r\n%s\r\n" % (boundary.encode(), answer) for answer in answers)
        return Response(lines + b"--%s--\r\n" % boundary.encode(), headers={"Content-Type": f"multipart/mixed; boundary={boundary}"})

    return router


async def _answer(calls: ASGIApp, request: Request, identifier: str, content: bytes) -> bytes:
    """One call's answer as a part."""
    status, headers, body = await _call(calls, request, content)
    name = f"Content-ID: <response-{identifier.strip('<>')}>\r\n" if identifier else ""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", *(f"{key.decode('latin-1')}: {value.decode('latin-1')}" for key, value in headers)]
    return f"Content-Type: application/http\r\n{name}\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def _call(calls: ASGIApp, request: Request, content: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Let the routes answer an HTTP request that came as text."""
    head, _, body = content.replace(b"\r\n", b"\n").partition(b"\n\n")
    words = head.split(b"\n", 1)[0].split()
    if len(words) != 3:
        raise invalid("batch: expected 'METHOD ADDRESS HTTP/1.1' in the first line of every part.")
    try:
        url = urlsplit(words[1].decode("ascii"))
    except ValueError:
        raise invalid(f"batch: found the address {words[1][:200]!r}; expected one such as /storage/v1/b/BUCKET/o/OBJECT.") from None
    scope = {
        **{key: request.scope[key] for key in ("type", "asgi", "http_version", "scheme", "server", "client", "root_path") if key in request.scope},
        "method": words[0].decode("latin-1").upper(),
        "path": unquote_to_bytes(url.path).decode("utf-8", "replace"),
        "raw_path": url.path.encode("ascii"),
        "query_string": url.query.encode("ascii"),
        "headers": [(b"host", request.headers.get("host", "").encode("latin-1")), (b"content-type", b"application/json")],
    }
    status, headers, sent = 500, [], bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, headers
        if message["type"] == "http.response.start":
            status, headers = message["status"], list(message["headers"])
        elif message["type"] == "http.response.body":
            sent.extend(message.get("body", b""))

    await calls(scope, receive, send)
    return status, headers, bytes(sent)
