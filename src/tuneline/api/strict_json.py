"""Requests read strictly. Python's own reader of JSON lets NaN, infinity and lone surrogates through, which no answer and no file can hold."""

from collections.abc import Callable, Coroutine
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.routing import APIRoute

from tuneline.api.faults import invalid
from tuneline.api.path_names import check_names

MAX_DEPTH = 100
"""Of objects and lists in one another, as protobuf's own readers have it. What is deeper than that, not every writer of JSON can write."""


def read_json(content: bytes) -> Any:
    """The value. Raises orjson.JSONDecodeError, a ValueError, for what is no JSON, and a Fault for what is too deep."""
    value = orjson.loads(content)
    if _is_deeper(value, MAX_DEPTH):
        raise invalid(f"body: found objects and lists more than {MAX_DEPTH} deep in one another; expected at most that many.")
    return value


class StrictRequest(Request):
    """A request whose body is read by orjson."""

    async def json(self) -> Any:
        return read_json(await self.body())


class StrictRoute(APIRoute):
    """The route class of routers whose messages keep values as they were sent."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            check_names(request.path_params)
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


def _is_deeper(value: object, depth: int) -> bool:
    level: list[object] = [value]
    for _ in range(depth + 1):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return bool(level)
