"""A Kubernetes API on this machine: whatever a test answers, over HTTP, and the real client for it."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes.client import ApiClient, Configuration

Json = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What was asked."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: Json | None


Answer = tuple[int, Json] | None
"""Status and object; None closes the connection without an answer."""


@contextlib.contextmanager
def serving(answer: Callable[[Request], Answer], *, token: str = "") -> Iterator[ApiClient]:
    """The client, which tries nothing twice by itself, so that tests can count requests."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            url = urlsplit(self.path)
            answered = answer(Request(self.command, url.path, parse_qs(url.query), self.headers, json.loads(content) if content else None))
            if answered is None:
                self.close_connection = True
                return
            status, body = answered
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 (the base class's names)

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    configuration = Configuration(host=f"http://127.0.0.1:{server.server_port}", api_key={"authorization": f"Bearer {token}"} if token else None)
    configuration.proxy = None
    configuration.retries = False
    thread.start()
    try:
        yield ApiClient(configuration)
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
