"""What stands before every route: who may ask, by which name, how much and how often."""

import hmac
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tuneline.api.faults import Fault
from tuneline.api.settings import Settings

UPLOADS = "/upload/"
MAX_CLIENTS = 4096
"""Addresses whose requests are counted at the same time."""
MAX_LENGTH_DIGITS = 18
"""Of Content-Length: more of them is more than any limit, and than Python reads as a number."""


class Gate:
    """Refuses requests before they reach a route.

    A web page that a user happens to look at can send requests to this machine, too: its own name stands in Origin, and after DNS
    rebinding in Host. So both are checked, on every method.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._hosts = settings.hosts
        self._rates = _Rates(settings.requests_per_second, settings.burst)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        fault = self._fault(scope, headers)
        if fault is not None:
            await JSONResponse(fault.to_json(), status_code=fault.http_status)(scope, receive, send)
            return
        limit = self._settings.max_upload_bytes if UPLOADS in scope["path"] else self._settings.max_body_bytes
        await self._app(scope, _Limited(receive, limit), send)

    def _fault(self, scope: Scope, headers: dict[str, str]) -> Fault | None:
        for name, address in (("host", f"//{headers.get('host', '')}"), ("origin", headers.get("origin"))):
            if self._hosts is not None and address is not None and _host_name(address) not in self._hosts:
                expected = ", ".join(sorted(self._hosts))
                return Fault("PERMISSION_DENIED", f"header {name}: found {headers.get(name, '')!r}; expected one of {expected}. Add a name with --allow-host.")
        if self._settings.token and not _bears(headers.get("authorization", ""), headers.get("x-goog-api-key", ""), self._settings.token):
            return Fault("UNAUTHENTICATED", "header Authorization: expected 'Bearer TOKEN' with the token that 'tuneline serve' wrote to its token file.")
        if not self._rates.allows(str((scope.get("client") or ("",))[0])):
            return Fault("RESOURCE_EXHAUSTED", f"more than {self._settings.requests_per_second:g} requests a second; try again in a moment.")
        length = headers.get("content-length", "0")
        limit = self._settings.max_upload_bytes if UPLOADS in scope["path"] else self._settings.max_body_bytes
        if length.isdecimal() and (len(length) > MAX_LENGTH_DIGITS or int(length) > limit):
            return Fault("INVALID_ARGUMENT", f"body: {length[:MAX_LENGTH_DIGITS]} bytes; expected at most {limit}.", http_status=413)
        return None


class _Limited:
    """A request body that ends with a 413 when it is longer than it may be, whatever its header said."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left, self._limit = receive, limit, limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise Fault("INVALID_ARGUMENT", f"body: longer than {self._limit} bytes.", http_status=413)
        return message


@dataclass
class _Bucket:
    tokens: float
    filled: float


class _Rates:
    """A token bucket for each client address."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def allows(self, client: str) -> bool:
        moment = time.monotonic()
        bucket = self._buckets.setdefault(client, _Bucket(self._burst, moment))
        self._buckets.move_to_end(client)
        if len(self._buckets) > MAX_CLIENTS:
            self._buckets.popitem(last=False)
        bucket.tokens = min(self._burst, bucket.tokens + (moment - bucket.filled) * self._per_second)
        bucket.filled = moment
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _bears(authorization: str, key: str, token: str) -> bool:
    given = authorization.removeprefix("Bearer ") if authorization.startswith("Bearer ") else key
    return hmac.compare_digest(given.encode(), token.encode())


def _host_name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:  # an address that is none
        return None
