"""An HTTP server on this machine that answers as it was told and keeps what it was asked: Google's APIs, or Kubeflow's, for a test."""

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tuneline.vertex.backoff import Clock

HANG_UP = "hang up"
"""Instead of an answer: the connection ends, as when a proxy or the network fails."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: Any


Answer = tuple[int, Any] | str | Callable[[Asked], tuple[int, Any]]
"""Status and JSON (or bytes as they are), HANG_UP, or a function that answers."""


@dataclass
class StubApi:
    """Answers by method and path; what is not expected is a 404."""

    address: str = ""
    asked: list[Asked] = field(default_factory=list)
    routes: list[tuple[str, re.Pattern[str], list[Answer]]] = field(default_factory=list)

    def on(self, method: str, path: str, *answers: Answer) -> "StubApi":
        """Answers for requests whose path ends with this expression, one after the other; the last one again and again. Later ones come first."""
        self.routes.insert(0, (method, re.compile(path + "$"), list(answers)))
        return self

    def answer(self, asked: Asked) -> tuple[int, Any] | str:
        self.asked.append(asked)
        for method, pattern, answers in self.routes:
            if method == asked.method and pattern.search(asked.path):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                return answer(asked) if callable(answer) else answer
        return error(404, "NOT_FOUND", f"nothing at {asked.path}")

    @property
    def paths(self) -> list[str]:
        return [f"{asked.method} {asked.path}" for asked in self.asked]


def error(code: int, status: str, message: str = "because") -> tuple[int, dict[str, Any]]:
    """An answer in the form of Google's errors."""
    return code, {"error": {"code": code, "status": status, "message": message}}


@contextlib.contextmanager
def serving() -> Iterator[StubApi]:
    """A stub that listens."""
    stub = StubApi()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            address = urlsplit(self.path)
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = stub.answer(
                Asked(
                    method=self.command,
                    path=unquote(address.path),
                    query=parse_qs(address.query),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=json.loads(content) if content else None,
                )
            )
            if isinstance(answer, str):
                self.close_connection = True
                return
            status, body = answer
            data = body if isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("Location", "https://elsewhere.example.com/")
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PATCH = do_DELETE = do_HEAD = handle_any  # noqa: N815 (the base class's names)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    stub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@dataclass
class FakeTime:
    """A clock that is set forward by sleeping."""

    moment: float = 0.0
    slept: list[float] = field(default_factory=list)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += seconds

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.moment, sleep=self.sleep)
