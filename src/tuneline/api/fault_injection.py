"""Faults on purpose, for tests of clients: what an overloaded or lossy network service does, from a seed, and only when it was set up so.

Requests have no influence on it. Which request meets which fault follows from the seed and the order in which requests come.
"""

import asyncio
import json
import logging
import random
import socket
import struct
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneline.api.faults import Fault
from tuneline.errors import UsageError, did_you_mean

LOG = logging.getLogger(__name__)
PREFIXES = ("/v1/", "/v1beta1/", "/ui/", "/storage/", "/upload/", "/download/", "/batch/", "/b/")
"""Paths of the APIs. The service's own (`/health`, `/openapi.json`) always answer."""
Kind = Literal["unavailable", "too_many_requests", "reset", "lost_response"]
KINDS: tuple[Kind, ...] = ("unavailable", "too_many_requests", "reset", "lost_response")
REFUSALS = {"unavailable": "UNAVAILABLE", "too_many_requests": "RESOURCE_EXHAUSTED"}
EXPECTED = 'expected a JSON object such as {"seed": 1, "unavailable": 0.05, "lost_response": 0.02}'


@dataclass(frozen=True, kw_only=True)
class Faults:
    """What goes wrong how often. Shares are of all requests, from 0 to 1."""

    seed: int = 0
    unavailable: float = 0.0
    """Answered with 503, not executed."""
    too_many_requests: float = 0.0
    """Answered with 429, not executed."""
    reset: float = 0.0
    """The connection is broken, nothing is executed."""
    lost_response: float = 0.0
    """Executed; then the connection is broken instead of the answer."""
    slow: float = 0.0
    """Executed at once, answered up to `delay_seconds` later."""
    delay_seconds: float = 30.0
    stale_list: float = 0.0
    """Lists lack what is younger than `stale_seconds`."""
    stale_seconds: float = 5.0

    def __post_init__(self) -> None:
        shares = {name: getattr(self, name) for name in (*KINDS, "slow", "stale_list")}
        problems = [f"{name}: found {share!r}; expected a share from 0 to 1." for name, share in shares.items() if not 0 <= share <= 1]
        if sum(shares[kind] for kind in KINDS) > 1:
            problems.append(f"{', '.join(KINDS)}: found shares that make more than 1; a request meets one of them at most.")
        problems += [f"{name}: expected at least 0." for name in ("delay_seconds", "stale_seconds") if not getattr(self, name) >= 0]
        if problems:
            raise UsageError(*problems)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """The faults that a JSON object describes."""
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise UsageError(f"found {text[:100]!r}; {EXPECTED}.")
        known = [field.name for field in fields(cls)]
        problems = [f"unknown name {name!r}.{did_you_mean(name, known)}" for name in given if name not in known]
        problems += [f"{name}: found {value!r}; expected a number." for name, value in given.items() if isinstance(value, bool | str | list | dict | None)]
        if problems:
            raise UsageError(*problems, next_action=f"The names are {', '.join(known)}.")
        return cls(**given)


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What happens to one request."""

    kind: Kind | None
    delay_seconds: float
    is_stale: bool


def fate_of(faults: Faults, draws: random.Random) -> Fate:
    """The next request's. Takes three numbers from `draws`, whatever they say, so that one share does not move the others' faults."""
    one, two, three = draws.random(), draws.random(), draws.random()
    kind: Kind | None = None
    for candidate in KINDS:
        share = getattr(faults, candidate)
        if 0 <= one < share:
            kind = candidate
        one -= share
    delay = two / faults.slow * faults.delay_seconds if two < faults.slow else 0.0
    return Fate(kind=kind, delay_seconds=delay, is_stale=three < faults.stale_list)


def without_young(answer: Any, horizon: datetime) -> tuple[Any, int]:
    """A list's answer without what was created after the horizon, and how many are left out. A resource, which has a name of its own, is no list."""
    if not isinstance(answer, dict) or "name" in answer:
        return answer, 0
    kept = {key: [item for item in value if not _is_young(item, horizon)] if isinstance(value, list) else value for key, value in answer.items()}
    return kept, sum(len(answer[key]) - len(value) for key, value in kept.items() if isinstance(value, list))


class FaultInjection:
    """Stands before everything else. `injected` counts requests, and what happened to them."""

    def __init__(self, app: ASGIApp, faults: Faults, injected: Counter[str]) -> None:
        self._app, self._faults, self._injected = app, faults, injected
        self._draws = random.Random(faults.seed)  # noqa: S311 (repeatable, not secret)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(PREFIXES):
            await self._app(scope, receive, send)
            if scope["type"] == "lifespan":  # it returns when the service ends
                LOG.info("injected %s", " ".join(f"{kind}={count}" for kind, count in sorted(self._injected.items())) or "nothing")
            return
        self._injected["requests"] += 1
        fate = fate_of(self._faults, self._draws)
        if fate.kind is not None:
            self._note(fate.kind, scope)
            await self._fail(fate.kind, scope, receive, send)
            return
        if fate.is_stale and scope["method"] == "GET" and not _is_download(scope):
            horizon = datetime.now(UTC) - timedelta(seconds=self._faults.stale_seconds)
            send = _StaleList(send, horizon, lambda: self._note("stale_list", scope))
        if fate.delay_seconds:
            self._note("slow", scope)
            send = _late(send, fate.delay_seconds)
        await self._app(scope, receive, send)

    async def _fail(self, kind: Kind, scope: Scope, receive: Receive, send: Send) -> None:
        if kind in REFUSALS:
            fault = Fault(REFUSALS[kind], "This fault was injected for a test. Try again.")
            await JSONResponse(fault.to_json(), status_code=fault.http_status)(scope, receive, send)
            return
        if kind == "lost_response":
            await self._app(scope, receive, _nowhere)
        await _break(receive)

    def _note(self, kind: str, scope: Scope) -> None:
        self._injected[kind] += 1
        LOG.info("injected fault=%s method=%s path=%s", kind, scope["method"], scope["path"])


class _StaleList:
    """Holds a JSON answer back until it is whole, and leaves out what is young. Other answers go through as they come."""

    def __init__(self, send: Send, horizon: datetime, note: Callable[[], None]) -> None:
        self._send, self._horizon, self._note = send, horizon, note
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _is_json(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._answer(self._start, bytes(self._body))

    async def _answer(self, start: Message, content: bytes) -> None:
        answer, hidden = without_young(json.loads(content), self._horizon)
        if hidden:
            self._note()
            content = json.dumps(answer).encode()
            MutableHeaders(raw=start["headers"])["content-length"] = str(len(content))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": content})


def _is_json(start: Message) -> bool:
    return start["status"] == 200 and MutableHeaders(raw=start["headers"]).get("content-type", "").startswith("application/json")


def _is_download(scope: Scope) -> bool:
    """Whether an object's content is asked for, which may be JSON itself."""
    return scope["path"].startswith("/download/") or b"alt=media" in scope["query_string"]


def _is_young(item: Any, horizon: datetime) -> bool:
    created = item.get("createTime") or item.get("timeCreated") if isinstance(item, dict) else None
    return isinstance(created, str) and datetime.fromisoformat(created) > horizon


def _late(send: Send, seconds: float) -> Send:
    async def late(message: Message) -> None:
        if message["type"] == "http.response.start":
            await asyncio.sleep(seconds)
        await send(message)

    return late


async def _nowhere(_message: Message) -> None:
    pass


async def _break(receive: Receive) -> None:
    """Break the connection with a TCP reset.

    ASGI cannot say that, and an exception would become an answer of status 500. uvicorn's `receive` is a method of the object that has the
    connection. Where there is none, as in a test without a socket, the caller gets the error that a socket would have given it.
    """
    transport = getattr(getattr(receive, "__self__", None), "transport", None)
    if transport is None:
        raise ConnectionResetError("This fault was injected for a test.")
    # Without a time to linger the kernel sends a reset instead of an ordinary end, which a client could take for an idle connection's.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    while (await receive())["type"] != "http.disconnect":  # returned from earlier, uvicorn would still try to answer
        pass
