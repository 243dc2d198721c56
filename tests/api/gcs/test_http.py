"""The wire: errors, ranges, chunks, limits and paths, as curl and other clients see them."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuneline.api.faults import Fault
from tuneline.api.gcs import Buckets, create_router
from tuneline.api.gcs.draft import Draft

UPLOAD = "/upload/storage/v1/b/bkt/o"
RELATED = {"Content-Type": "multipart/related; boundary=xyz"}


def put(http: TestClient, name: str, content: bytes, **headers: str) -> dict[str, Any]:
    answer = http.post(UPLOAD, params={"uploadType": "media", "name": name}, content=content, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def begin(http: TestClient, **metadata: Any) -> str:
    answer = http.post(UPLOAD, params={"uploadType": "resumable"}, json=metadata)
    assert (answer.status_code, answer.content) == (200, b"")
    return answer.headers["Location"]


def chunk(http: TestClient, session: str, content_range: str, content: bytes = b"") -> tuple[int, str | None]:
    answer = http.put(session, content=content, headers={"Content-Range": content_range} if content_range else {})
    return answer.status_code, answer.headers.get("Range")


def test_the_readme_of_any_emulator_works_with_curl(address: str, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    (tmp_path / "data").write_bytes(bytes(3 << 20))

    def run(*arguments: str) -> bytes:
        return subprocess.run([curl, "-sS", "--fail-with-body", *arguments], check=True, capture_output=True, timeout=30).stdout

    assert json.loads(run("-H", "Content-Type: application/json", "-d", '{"name": "bkt"}', f"{address}/storage/v1/b?project=p"))["kind"] == "storage#bucket"
    upload = f"{address}{UPLOAD}?uploadType=media&name=folder/data"
    assert json.loads(run("-H", "Content-Type: a/b", "--data-binary", f"@{tmp_path}/data", upload))["size"] == str(3 << 20)
    assert run(f"{address}/storage/v1/b/bkt/o/folder%2Fdata?alt=media") == bytes(3 << 20)
    assert run("-r", "0-9", f"{address}/download/storage/v1/b/bkt/o/folder%2Fdata?alt=media") == bytes(10)
    assert run("-X", "DELETE", f"{address}/storage/v1/b/bkt/o/folder%2Fdata") == b""
    listed = json.loads(run(f"{address}/storage/v1/b/bkt/o"))
    assert listed == {"kind": "storage#objects", "items": []}


def test_an_object_says_of_itself_what_clients_read(http: TestClient) -> None:
    found = put(http, "a/b", b"123", **{"Content-Type": "text/plain"})
    path = "/storage/v1/b/bkt/o/a%2Fb"
    assert found["selfLink"] == f"http://testserver{path}"
    assert found["mediaLink"] == f"http://testserver/download{path}?generation={found['generation']}&alt=media"
    assert {key: found[key] for key in ("kind", "id", "name", "bucket", "size", "contentType", "metageneration", "storageClass", "md5Hash", "crc32c")} == {
        "kind": "storage#object", "id": f"bkt/a/b/{found['generation']}", "name": "a/b", "bucket": "bkt", "size": "3", "contentType": "text/plain",
        "metageneration": "1", "storageClass": "STANDARD", "md5Hash": "ICy5YqxZB1uWSwcVLSNLcA==", "crc32c": "EHsvsg==",
    }  # fmt: skip
    assert http.get(path).json() == found
    answer = http.get(found["mediaLink"])
    assert (answer.content, answer.headers["X-Goog-Hash"]) == (b"123", "crc32c=EHsvsg==,md5=ICy5YqxZB1uWSwcVLSNLcA==")
    assert (answer.headers["X-Goog-Generation"], answer.headers["ETag"]) == (found["generation"], found["etag"])


def test_nodes_client_calls_without_a_prefix(http: TestClient) -> None:
    put(http, "x", b"1")
    assert http.get("/b/bkt/o/x", params={"alt": "media"}).content == b"1"
    assert [item["name"] for item in http.get("/b/bkt/o").json()["items"]] == ["x"]


def test_gclouds_uploads_have_an_address_of_their_own(http: TestClient) -> None:
    answer = http.post(f"/resumable{UPLOAD}", params={"uploadType": "resumable"}, json={"name": "x"})
    assert chunk(http, answer.headers["Location"], "bytes 0-2/3", b"123") == (200, None)
    assert http.get("/storage/v1/b/bkt/storageLayout").json()["hierarchicalNamespace"] == {"enabled": False}
    assert http.get("/storage/v1/b/bkt/managedFolders").json()["items"] == []


@pytest.mark.parametrize(
    ("header", "status", "content", "content_range"),
    [
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=-0", 416, None, "bytes */10"),
        ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=4-2", 200, b"0123456789", None),
        ("lines=0-1", 200, b"0123456789", None),
        (f"bytes={'9' * 30}-", 200, b"0123456789", None),
    ],
)
def test_ranges(http: TestClient, header: str, status: int, content: bytes | None, content_range: str | None) -> None:
    put(http, "x", b"0123456789")
    answer = http.get("/storage/v1/b/bkt/o/x", params={"alt": "media"}, headers={"Range": header})
    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, content_range)
    if content is None:
        assert answer.json()["error"]["errors"][0]["reason"] == "requestedRangeNotSatisfiable"
    else:
        assert (answer.content, answer.headers["Content-Length"]) == (content, str(len(content)))


def test_etags(http: TestClient) -> None:
    etag = put(http, "x", b"1")["etag"]
    for path in ("/storage/v1/b/bkt/o/x", "/storage/v1/b/bkt/o/x?alt=media"):
        assert http.get(path, headers={"If-None-Match": etag}).status_code == 304
        assert http.get(path, headers={"If-None-Match": "other"}).status_code == 200
        assert http.get(path, headers={"If-Match": etag}).status_code == 200
        assert http.get(path, headers={"If-Match": "other"}).status_code == 412


def test_chunks_arrive_in_order_and_may_be_sent_again(http: TestClient) -> None:
    session = begin(http, name="x", contentType="a/b")
    assert chunk(http, session, "bytes */*") == (308, None)
    assert chunk(http, session, "bytes 0-3/*", b"0123") == (308, "bytes=0-3")
    assert chunk(http, session, "bytes 0-3/*", b"xxxx") == (308, "bytes=0-3")
    assert chunk(http, session, "bytes 2-5/*", b"xx45") == (308, "bytes=0-5")
    assert chunk(http, session, "bytes */10") == (308, "bytes=0-5")
    assert chunk(http, session, "bytes 8-9/10", b"89")[0] == 400
    assert http.get("/b/bkt/o/x").status_code == 404
    assert chunk(http, session, "bytes 6-9/10", b"6789") == (200, None)
    for again in ("bytes */10", "bytes 6-9/10", ""):
        assert chunk(http, session, again, b"") == (200, None)
    assert http.get("/b/bkt/o/x?alt=media").content == b"0123456789"


@pytest.mark.parametrize(
    ("content_range", "content"),
    [("bytes 0-3/10", b"01234"), ("bytes 5-3/10", b""), ("bytes 0-10/10", b"x" * 11), ("items 0-3/10", b"0123"), ("bytes 0-3", b"0123"), ("bytes -3/10", b"")],
)
def test_a_chunk_that_contradicts_itself_is_refused(http: TestClient, content_range: str, content: bytes) -> None:
    session = begin(http, name="x")
    answer = http.put(session, content=content, headers={"Content-Range": content_range})
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (400, "invalid")


def test_a_later_request_takes_an_upload_over(http: TestClient, buckets: Buckets) -> None:
    """The service may still wait for bytes of a connection that the client has given up."""
    identifier = begin(http, name="x").partition("upload_id=")[2]
    upload = buckets.uploads.get("bkt", identifier)
    first = upload.begin(0)
    upload.write(first, 0, b"01")
    second = upload.begin(1)
    upload.write(second, 1, b"xx2")
    with pytest.raises(Exception, match="Another request"):
        upload.write(first, 2, b"late")
    upload.rest(second)
    assert buckets.uploads.finish(identifier, upload, {}).size == 4
    assert http.get("/b/bkt/o/x?alt=media").content == b"01x2"


def test_a_cancelled_upload_is_gone(http: TestClient, folder: Path) -> None:
    session = begin(http, name="x")
    chunk(http, session, "bytes 0-3/10", b"0123")
    assert http.delete(session).status_code == 499
    assert chunk(http, session, "bytes 4-9/10", b"456789")[0] == 404
    assert list((folder / ".tuneline" / "parts").iterdir()) == []


def test_an_upload_belongs_to_its_bucket_and_its_secret(http: TestClient, buckets: Buckets) -> None:
    buckets.insert("other", {})
    session = begin(http, name="x")
    for wrong in (session.replace("/b/bkt/", "/b/other/"), f"{UPLOAD}?upload_id=guess", f"{UPLOAD}?upload_id=../../x", UPLOAD):
        assert chunk(http, wrong, "bytes 0-0/1", b"x")[0] == 404


def test_conditions_of_an_upload_hold_when_it_ends(http: TestClient) -> None:
    session = http.post(UPLOAD, params={"uploadType": "resumable", "name": "x", "ifGenerationMatch": "0"}).headers["Location"]
    put(http, "x", b"other")
    assert chunk(http, session, "bytes 0-0/1", b"x")[0] == 412
    assert http.get("/b/bkt/o/x?alt=media").content == b"other"
    assert http.post(UPLOAD, params={"uploadType": "resumable", "name": "x", "ifGenerationMatch": "0"}).status_code == 412


def test_checksums_are_compared(http: TestClient) -> None:
    session = begin(http, name="x", crc32c="AAAAAA==")
    assert chunk(http, session, "", b"123")[0] == 400
    answer = http.post(UPLOAD, params={"uploadType": "media", "name": "x"}, content=b"123", headers={"X-Goog-Hash": "md5=AAAA,crc32c=EHsvsg=="})
    assert (answer.status_code, "MD5" in answer.json()["error"]["message"]) == (400, True)
    assert http.get("/b/bkt/o/x").status_code == 404


@pytest.mark.parametrize("line_end", ["\r\n", "\n"])
def test_a_body_of_two_parts(http: TestClient, line_end: str) -> None:
    head = f'--xyz{line_end}Content-Type: application/json{line_end}{line_end}{{"name": "x"}}{line_end}--xyz{line_end}Content-Type: a/b{line_end}{line_end}'
    body = head.encode() + b"content\r" + f"{line_end}--xyz--{line_end}".encode()
    answer = http.post(UPLOAD, params={"uploadType": "multipart"}, content=body, headers=RELATED)
    assert (answer.status_code, answer.json().get("contentType")) == (200, "a/b")
    assert http.get("/b/bkt/o/x?alt=media").content == b"content\r"
    cut_off = http.post(UPLOAD, params={"uploadType": "multipart"}, content=body[:-12], headers=RELATED)
    assert (cut_off.status_code, "closing boundary" in cut_off.text) == (400, True)


def test_a_refusal_reaches_a_client_that_is_still_sending(address: str) -> None:
    answer = requests.post(f"{address}/upload/storage/v1/b/missing/o", params={"uploadType": "media", "name": "x"}, data=bytes(20 << 20), timeout=30)
    assert (answer.status_code, answer.json()["error"]["errors"][0]["reason"]) == (404, "notFound")


def test_what_arrived_before_a_connection_broke_is_kept(address: str, http: TestClient) -> None:
    session = urlsplit(begin(http, name="x"))
    host, port = urlsplit(address).hostname, urlsplit(address).port
    with socket.create_connection((host, port)) as connection:
        head = f"PUT {session.path}?{session.query} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode() + b"x" * 300_000)
    path, deadline = f"{session.path}?{session.query}", time.monotonic() + 20
    while chunk(http, path, "bytes */*") != (308, "bytes=0-299999"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert http.get("/b/bkt/o/x").status_code == 404
    assert chunk(http, path, "bytes 300000-300000/300001", b"y") == (200, None)


def refused(http: TestClient, method: str, path: str, **request: Any) -> tuple[int, str, str]:
    answer = http.request(method, path, **request)
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    (detail,) = error["errors"]
    assert (detail["domain"], detail["message"]) == ("global", error["message"])
    return answer.status_code, detail["reason"], error["message"]


@pytest.mark.parametrize(
    ("method", "path", "request_", "code", "words"),
    [
        ("GET", "/storage/v1/b/missing", {}, 404, "bucket does not exist"),
        ("GET", "/storage/v1/b/bkt/o/missing", {}, 404, "No such object: bkt/missing"),
        ("GET", "/storage/v1/b/..%2Fbkt", {}, 404, "bucket does not exist"),
        ("GET", "/storage/v1/b/.tuneline/o/records.sqlite?alt=media", {}, 404, "bucket does not exist"),
        ("GET", "/storage/v1/b/bkt/o/..%2F.tuneline%2Frecords.sqlite?alt=media", {}, 404, "No such object"),
        ("GET", "/storage/v1/b/bkt/o/%ff", {}, 400, "not UTF-8"),
        ("GET", "/storage/v1/b/bkt/o/x?generation=new", {}, 400, "generation: found 'new'"),
        ("GET", "/storage/v1/b/bkt/o/x?ifGenerationMatch=-1", {}, 400, "ifGenerationMatch: found '-1'"),
        ("POST", "/storage/v1/b", {"content": "{"}, 400, "not JSON"),
        ("POST", "/storage/v1/b", {"json": ["x"]}, 400, "expected a JSON object"),
        ("POST", "/storage/v1/b", {"json": {"name": 1}}, 400, "name: expected a string"),
        ("POST", "/storage/v1/b", {"json": {"name": "new", "labels": {"a": 1}}}, 400, "labels"),
        ("POST", "/storage/v1/b", {"content": b" " * (2 << 20)}, 413, "more than 1048576 bytes"),
        ("POST", "/storage/v1/b", {"content": b"[" * 100_000}, 400, "not JSON"),
        ("POST", UPLOAD, {}, 400, "uploadType: found ''"),
        ("POST", f"{UPLOAD}?uploadType=media", {}, 400, "name: expected"),
        ("POST", f"{UPLOAD}?uploadType=media&name=a%0Ab", {}, 400, "Invalid object name"),
        ("POST", f"{UPLOAD}?uploadType=media&name=x", {"content": bytes(65 << 20)}, 413, "more than"),
        ("POST", f"{UPLOAD}?uploadType=resumable&name=x", {"headers": {"X-Upload-Content-Length": str(65 << 20)}}, 413, "more than"),
        ("POST", f"{UPLOAD}?uploadType=resumable&name=x", {"json": {"metadata": {"a": 1}}}, 400, "metadata: expected"),
        ("POST", f"{UPLOAD}?uploadType=resumable&name=x", {"json": {"contentType": "a/b\r\nX: y"}}, 400, "contentType: expected"),
        ("POST", f"{UPLOAD}?uploadType=multipart", {"content": b"x", "headers": RELATED}, 400, "expected two parts"),
        ("POST", f"{UPLOAD}?uploadType=multipart", {"content": b"x"}, 400, "boundary"),
        ("POST", f"{UPLOAD}?uploadType=multipart", {"content": b"--xyz\n\n" + b"x" * (2 << 20), "headers": RELATED}, 400, "no second part"),
        ("POST", "/storage/v1/b/bkt/o/x/compose", {"json": {}}, 400, "sourceObjects"),
        ("POST", "/storage/v1/b/bkt/o/x/compose", {"json": {"sourceObjects": []}}, 400, "expected 1 to 32"),
        ("POST", "/batch/storage/v1", {"content": b"x"}, 400, "boundary"),
        ("PUT", "/storage/v1/b/bkt/iam", {"json": {"etag": "old"}}, 412, "etag"),
    ],
)
def test_refusals_have_cloud_storages_form(http: TestClient, method: str, path: str, request_: dict[str, Any], code: int, words: str) -> None:
    found, _, message = refused(http, method, path, **request_)
    assert (found, words in message) == (code, True), message


def test_an_object_below_a_name_is_not_that_name(http: TestClient) -> None:
    put(http, "a/compose", b"1")
    assert http.get("/storage/v1/b/bkt/o/a%2Fcompose").status_code == 200
    assert http.get("/storage/v1/b/bkt/o/a/compose").status_code in (404, 405)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError(5, "Input/output error"), ZeroDivisionError("secret")])
def test_a_failure_tells_no_details_and_leaves_nothing(http: TestClient, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(Draft, "seal", fail)
    code, reason, message = refused(http, "POST", f"{UPLOAD}?uploadType=media&name=x", content=b"1")
    expected = {28: (507, "insufficientStorage"), 5: (503, "backendError")}.get(getattr(error, "errno", 0), (500, "internalError"))
    assert (code, reason) == expected
    assert not {"Traceback", "secret", str(folder)} & set(message.split())
    assert list((folder / ".tuneline" / "parts").iterdir()) == []


def test_the_services_own_limit_on_bodies_is_told_in_this_form(http: TestClient, folder: Path) -> None:
    """The gate in front of the routes stops a body by an exception, in the middle of it."""

    async def gated(scope: Any, receive: Any, send: Any) -> None:
        async def too_long() -> Any:
            await receive()
            raise Fault("INVALID_ARGUMENT", "body: longer than 3 bytes.", http_status=413)

        await http.app(scope, too_long, send)

    code, _, message = refused(TestClient(gated, raise_server_exceptions=False), "POST", f"{UPLOAD}?uploadType=media&name=x", content=b"1234")
    assert (code, message) == (413, "body: longer than 3 bytes.")
    assert list((folder / ".tuneline" / "parts").iterdir()) == []


def test_a_router_is_made_of_a_folder(tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(create_router(tmp_path / "new", project_number="456"))
    assert TestClient(app).post("/storage/v1/b", json={"name": "bkt", "location": "eu"}).json()["projectNumber"] == "456"
    assert (tmp_path / "new" / "bkt").is_dir()
    assert app.openapi()["paths"] == {}


NAMES = st.sampled_from(["bkt", "x", "a%2Fb", "..", "%2e%2e%2f", "%00", "%0a", "%ff", "%F0%9F%98%80", "x%2F", "o", "é"])
PATHS = st.tuples(
    st.sampled_from(["/storage/v1/b", "/b", "/upload/storage/v1/b", "/download/storage/v1/b", "/resumable/upload/storage/v1/b", "/batch/storage/v1"]),
    st.lists(st.one_of(NAMES, st.sampled_from(["bkt", "o", "x", "iam", "compose", "copyTo", "rewriteTo", "moveTo", "b"])), max_size=6),
)
VALUES = st.one_of(st.sampled_from(["0", "1", "-1", "true", "media", "multipart", "resumable", "x", "../x", "/"]), st.text(max_size=3))
KEYS = st.sampled_from(
    [
        *("uploadType", "name", "upload_id", "alt", "generation", "ifGenerationMatch", "ifMetagenerationNotMatch", "ifSourceGenerationMatch", "prefix"),
        *("delimiter", "pageToken", "maxResults", "startOffset", "endOffset", "includeTrailingDelimiter", "sourceGeneration", "contentEncoding"),
    ]
)
JSON = st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)), lambda inner: st.lists(inner, max_size=2), max_leaves=3)
FIELDS = st.sampled_from(["name", "metadata", "labels", "location", "contentType", "sourceObjects", "destination", "bindings", "etag", "storageClass", "acl"])
BODIES = st.one_of(st.binary(max_size=20), st.dictionaries(FIELDS, JSON, max_size=3).map(lambda body: json.dumps(body).encode()))
HEADERS = st.dictionaries(
    st.sampled_from(["Range", "Content-Range", "Content-Type", "If-Match", "X-Goog-Hash", "X-Upload-Content-Length", "X-Upload-Content-Type"]),
    st.sampled_from(["bytes=0-", "bytes 0-1/2", "bytes */*", "multipart/related; boundary=x", "md5=x", "5", "é", "a/b"]),
    max_size=2,
)


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]), path=PATHS, query=st.dictionaries(KEYS, VALUES, max_size=4), body=BODIES, headers=HEADERS
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_no_request_makes_the_service_fail(
    http: TestClient, unsynced: None, folder: Path, method: str, path: tuple[str, list[str]], query: dict[str, str], body: bytes, headers: dict[str, str]
) -> None:
    start, rest = path
    encoded = {name: value.encode() for name, value in headers.items()}
    answer = http.request(method, "/".join([start, *rest]), params=query, content=body, headers=encoded)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and answer.status_code not in (404, 405, 499):
        assert answer.json()["error"]["code"] == answer.status_code
    assert {entry.name for entry in folder.parent.iterdir()} == {"buckets"}
