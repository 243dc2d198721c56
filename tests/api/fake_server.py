"""What a model's server is to the service, without a model: `python fake_server.py tuneline.serving.server --endpoint-id ID ...`.

It says which model it is and what it was asked, and refuses what it cannot read. A model whose folder has a file `broken` does not start. A body
may ask it to end by itself (`stop_by_itself`, `stop_in_the_middle`), or to answer nothing and tell when the client has gone (`until_gone`).
"""

import argparse
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from tuneline.registry import endpoints
from tuneline.registry.endpoints import ServerReport
from tuneline.registry.processes import ProcessIdentity

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Handler(BaseHTTPRequestHandler):
    name = ""

    def do_GET(self) -> None:
        self.answer(200, {"status": "SERVING"})

    def do_POST(self) -> None:
        try:
            self.respond(orjson.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            self.answer(400, {"error": {"code": 400, "message": f"body: {error}", "status": "INVALID_ARGUMENT"}})

    def respond(self, body: Any) -> None:
        if body.get("stop_by_itself"):
            report("STOPPED", "idle for 1 s")
            os._exit(0)
        if body.get("stop_in_the_middle"):
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"{")
            os._exit(1)
        if "until_gone" in body:
            Path(body["until_gone"], "asked").touch()
            self.connection.recv(1)  # nothing comes until the client goes
            Path(body["until_gone"], "gone").touch()
            return
        if body.get("temperature", 0) > 2:
            self.answer(400, {"error": {"code": 400, "message": "temperature: found 3; expected a number from 0 to 2.", "status": "INVALID_ARGUMENT"}})
        elif self.path == "/predict":
            predictions = [{"content": f"{self.name}: {instance}"} for instance in body["instances"]]
            self.answer(200, {"predictions": predictions, "deployedModelId": "of the server", "model": "of the server"})
        elif body.get("stream"):
            self.stream(body)
        else:
            self.answer(200, self.envelope(body, [self.choice(index) for index in range(body.get("n", 1))]) | {"usage": USAGE})

    def choice(self, index: int) -> dict[str, Any]:
        return {"index": index, "message": {"role": "assistant", "content": self.name}, "finish_reason": "length"}

    def envelope(self, body: dict[str, Any], choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": "id-1", "object": "chat.completion", "model": self.name, "choices": choices, "route": self.path, "asked": body}

    def stream(self, body: dict[str, Any]) -> None:
        deltas: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "one "}, None),
            ({"content": "two"}, "stop"),
        ]
        events = [self.envelope(body, [{"index": 0, "delta": delta, "finish_reason": reason}]) for delta, reason in deltas]
        events += [self.envelope(body, []) | {"usage": USAGE}]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for event in events:
            self.wfile.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    def answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def report(state: Any, reason: str = "") -> None:
    process = ProcessIdentity.of(os.getpid())
    assert process is not None
    endpoints.report_server(given.endpoint_id, ServerReport(state=state, process=process, url=url, start_time="2026-11-22T10:00:00", reason=reason))


parser = argparse.ArgumentParser()
parser.add_argument("module")
for flag in ("--endpoint-id", "--display-name", "--model-path"):
    parser.add_argument(flag)
given, _ = parser.parse_known_args()
Handler.name = given.display_name
if (Path(given.model_path) / "broken").exists():
    sys.exit("config.json: the model cannot be read.")
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
url = f"http://127.0.0.1:{server.server_port}"
claim = endpoints.claim(given.endpoint_id)
assert claim is not None
report("RUNNING")
server.serve_forever()
