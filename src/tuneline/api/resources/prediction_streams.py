"""Answers that come piece by piece: the events of the model's server, and the two forms in which Google's services stream."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import orjson

from tuneline.api.store import Body

SSE = "text/event-stream"
_DATA = "data: "


async def chat_events(stack: AsyncExitStack, answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    """The events of a streamed chat. The stack, which holds the connection, is closed at the end."""
    async with stack:
        async for line in answer.aiter_lines():
            if line.startswith(f"{_DATA}{{"):
                yield orjson.loads(line.removeprefix(_DATA))


async def server_sent(pieces: AsyncIterator[Body]) -> AsyncIterator[bytes]:
    """Server-sent events, for `alt=sse`."""
    async for piece in pieces:
        yield _DATA.encode() + orjson.dumps(piece) + b"\r\n\r\n"


async def json_list(pieces: AsyncIterator[Body]) -> AsyncIterator[bytes]:
    """One JSON list that grows, for everybody else."""
    separator = b"["
    async for piece in pieces:
        yield separator + orjson.dumps(piece)
        separator = b",\r\n"
    yield b"]" if separator != b"[" else b"[]"
