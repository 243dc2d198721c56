"""Requests as bytes, as they come over a socket: no client in between that mends them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

Headers = Sequence[tuple[bytes, bytes]]
HOST: Headers = ((b"host", b"127.0.0.1"),)


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Headers
    content: bytes

    def json(self) -> Any:
        return json.loads(self.content)


def ask(app: ASGIApp, method: str, target: str, *, headers: Headers = (), content: bytes = b"") -> Answer:
    """The application's answer to one request. `target` is what stands in the request line; without a host among the headers it is 127.0.0.1."""
    return asyncio.run(_asked(app, method, target, headers, content))


async def _asked(app: ASGIApp, method: str, target: str, headers: Headers, content: bytes) -> Answer:
    path, _, query = target.partition("?")
    given = headers if any(name == b"host" for name, _ in headers) else (*HOST, *headers)
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
        "root_path": "", "method": method, "path": unquote(path), "raw_path": path.encode("ascii"), "query_string": query.encode("ascii"), "headers": given,
    }  # fmt: skip
    sent: list[Message] = []
    pieces = iter([{"type": "http.request", "body": content, "more_body": False}])

    async def receive() -> Message:
        return next(pieces, None) or await asyncio.Event().wait()  # type: ignore[return-value]  # the client stays and says nothing more

    async def send(message: Message) -> None:
        sent.append(message)

    try:
        await app(scope, receive, send)
    except Exception:  # the framework answers for a bug, then raises it
        assert sent, "no answer"
    start, *bodies = sent
    return Answer(start["status"], start["headers"], b"".join(body.get("body", b"") for body in bodies))
