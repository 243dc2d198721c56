"""A repository of pipeline templates on 127.0.0.1, as Artifact Registry's documentation describes it: real HTTP, everything in memory.

It answers kfp's client in both of its layouts: everything below one address (kfp's for a host that it does not know), and content here but
packages, versions and tags under `/v1/projects/...` (Artifact Registry's).
"""

import hashlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml

PLACE = "my-project/templates"
API = "v1/projects/my-project/locations/europe/repositories/templates"
Answer = tuple[int, bytes]


@dataclass
class FakeRepository:
    """What is stored, and how to answer. `versions` is by name and digest, `tags` by name and tag."""

    port: int = 0
    token: str = ""
    """When set, every request must bear it."""
    page_size: int = 2
    """Of a list whose request names none."""
    tags_are_overwritten: bool = False
    """Whether a tag that exists can be created, which Artifact Registry refuses."""
    meddle: Callable[[str, str], Answer | None] = lambda method, path: None
    """Called before each request with its method and path; an answer takes the place of the true one."""
    versions: dict[str, dict[str, bytes]] = field(default_factory=dict)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    times: dict[str, str] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{PLACE}"

    def answer(self, method: str, target: str, body: bytes, headers: dict[str, str]) -> Answer:
        path, query = urlsplit(target).path.strip("/"), parse_qs(urlsplit(target).query)
        self.requests.append(f"{method} {path}")
        if (meddled := self.meddle(method, path)) is not None:
            return meddled
        if path == "token":
            return _json({"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"})
        if self.token and headers.get("authorization") != f"Bearer {self.token}":
            return _error(401, "the token is missing")
        with self.lock:
            return self._answer(method, path, query, body, headers)

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: bytes, headers: dict[str, str]) -> Answer:
        rest = path.removeprefix(API).removeprefix(PLACE).strip("/").split("/")
        match method, rest:
            case "POST", [""]:
                return self._upload(body, headers["content-type"])
            case "GET", ["packages"]:
                return self._page("packages", [{"name": f"{API}/packages/{name}"} for name in self.versions], query)
            case "GET", ["packages", name, "versions"]:
                found = [{"name": f"{API}/packages/{name}/versions/{digest}", "createTime": self.times[digest]} for digest in self.versions.get(name, {})]
                return self._page("versions", found, query)
            case "GET", ["packages", name, "tags"]:
                return self._page("tags", [self._tag(name, tag) for tag in self.tags.get(name, {})], query)
            case "GET", ["packages", name, "tags", tag]:
                return _json(self._tag(name, tag)) if tag in self.tags.get(name, {}) else _error(404, "no such tag")
            case "POST", ["packages", name, "tags"]:
                return self._set_tag(name, query["tagId"][0], body, must_exist=False)
            case "PATCH", ["packages", name, "tags", tag] if query["updateMask"] == ["version"]:
                return self._set_tag(name, tag, body, must_exist=True)
            case "GET", [name, reference]:
                content = self.versions.get(name, {}).get(self.tags.get(name, {}).get(reference, reference))
                return (200, content) if content is not None else _error(404, "no such version")
        return _error(404, "no such resource")

    def _upload(self, body: bytes, content_type: str) -> Answer:
        form = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
        parts = {part.get_param("name", header="content-disposition"): part.get_payload(decode=True) for part in form.get_payload()}
        content = parts["content"]
        name, digest = yaml.safe_load(content)["pipelineInfo"]["name"], f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.versions.setdefault(name, {})[digest] = content
        self.times.setdefault(digest, f"2026-11-28T10:00:{len(self.times):02}Z")
        for tag in filter(None, parts.get("tags", b"").decode().split(",")):
            self.tags.setdefault(name, {})[tag] = digest  # an upload's tags are taken from other versions
        return 200, f"{name}/{digest}".encode()

    def _set_tag(self, name: str, tag: str, body: bytes, *, must_exist: bool) -> Answer:
        digest = json.loads(body)["version"].rpartition("/")[2]
        exists = tag in self.tags.get(name, {})
        if digest not in self.versions.get(name, {}) or (must_exist and not exists):
            return _error(404, "no such version or tag")
        if exists and not must_exist and not self.tags_are_overwritten:
            return _error(409, "the tag exists")
        self.tags.setdefault(name, {})[tag] = digest
        return _json(self._tag(name, tag))

    def _tag(self, name: str, tag: str) -> dict[str, str]:
        return {"name": f"{API}/packages/{name}/tags/{tag}", "version": f"{API}/packages/{name}/versions/{self.tags[name][tag]}"}

    def _page(self, key: str, items: list[dict[str, str]], query: dict[str, list[str]]) -> Answer:
        size = int(query.get("pageSize", [str(self.page_size)])[0])
        return _json({key: items[:size], "nextPageToken": "more"} if len(items) > size else {key: items} if items else {})


@contextmanager
def serving(repository: FakeRepository) -> Iterator[FakeRepository]:
    """Answer on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, content = repository.answer(self.command, self.path, body, {key.lower(): value for key, value in self.headers.items()})
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _do  # noqa: N815  # the names that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    repository.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield repository
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def failing(method: str, path_end: str, *answers: Answer) -> Callable[[str, str], Answer | None]:
    """Meddle so: the first requests of this kind get these answers, all later ones the last of them."""
    waiting = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda asked, path: next(waiting) if asked == method and path.endswith(path_end) else None


def service_account(fake: FakeRepository, folder: Path) -> Path:
    """A key file whose tokens the fake repository gives out."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    file = folder / "key.json"
    account = {"type": "service_account", "client_email": "a@example.com", "private_key": pem, "token_uri": f"http://127.0.0.1:{fake.port}/token"}
    file.write_text(json.dumps({**account, "project_id": "my-project"}))
    return file


def _json(value: object) -> Answer:
    return 200, json.dumps(value).encode()


def _error(status: int, message: str) -> Answer:
    return status, json.dumps({"error": {"code": status, "message": message}}).encode()
