"""Requests at random, of everything that a client may say wrongly: no error of ours, nothing spoilt, nothing outside the folder."""

import os
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.api.asgi import Answer, Headers, ask
from tests.api.gcs.conftest import Current
from tuneline.api.gcs import Buckets
from tuneline.api.gcs.conditions import ANYTHING
from tuneline.api.gcs.faults import StorageFault
from tuneline.api.gcs.objects import Target
from tuneline.api.gcs.tree import opened

DEEP = b'{"a":' * 150 + b"1" + b"}" * 150
NAMES = st.just("a") | st.sampled_from([
    *("b%2Fc", "dir%2F", "d%2F%2Fe", "%2Fabs", "..", ".", "", "..%2F..%2Fx", "%2e%2e%2f%2e%2e%2fx", "a%2F..%2Fb", "..%5C..%5Cx", "a%00b", "a%0Ab"),
    *("%ff", "%ed%a0%80", "%F0%9F%98%80", "a%3Fb", "a%25", "a/b", "a" * 300, "a" * 1025, "a%2F" * 200 + "x", ".tuneline%2Frecords.sqlite"),
    *(".well-known%2Facme-challenge%2Fx", ".x.0123456789abcdef0123456789abcdef.part"),
]) | st.text(max_size=5).map(lambda text: quote(text, safe=""))  # fmt: skip
BUCKETS = st.just("bkt") | st.sampled_from(["bkt", "bkt2", "none", "..", "%2e%2e", ".tuneline", "a", "BKT", "b%2Fk", "bkt%00", "%ff", "1.2.3.4", "a..b", ""])
NUMBERS = ["", "0", "1", "-1", "9" * 5000, str(2**63 - 1), str(2**63), "%C2%B2", "%D9%A1", "+1", "1.0", "%00", "%ff", "null"]
TOKENS = ["", "YQ==", "YQ", "7aCA", "AA==", "=", "%ff", "%F4%8F%BF%BF", "a", "%2F", "%00"]
QUERIES = st.lists(
    st.builds(
        "{}={}".format,
        st.sampled_from(["maxResults", "generation", "ifGenerationMatch", "ifMetaGenerationNotMatch", "ifSourceGenerationMatch", "sourceGeneration"]),
        st.sampled_from(NUMBERS),
    )
    | st.builds(
        "{}={}".format,
        st.sampled_from(["prefix", "delimiter", "pageToken", "startOffset", "endOffset", "upload_id", "contentEncoding", "permissions", "matchGlob"]),
        st.sampled_from(TOKENS),
    )
    | st.sampled_from(["alt=media", "includeTrailingDelimiter=true", "softDeleted=true", "uploadType=x", "alt=media&alt=json"]),
    max_size=3,
).map("&".join)
HEADERS = st.lists(
    st.sampled_from([
        *((b"range", value) for value in (b"bytes=0-", b"bytes=-0", b"bytes=5-1", b"bytes=0-0,1-1", b"bytes=" + b"9" * 30 + b"-", b"bytes=\xb2-", b"\xff")),
        *((b"content-range", value) for value in (b"bytes 0-2/3", b"bytes */*", b"bytes 5-1/2", b"bytes 1-2/3", b"bytes 0-" + b"9" * 30 + b"/*", b"\xff")),
        *((b"content-type", value) for value in (b"", b"\xff", b"multipart/related; boundary=", b'multipart/related; boundary="(["')),
        *((b"x-goog-hash", value) for value in (b"md5=x", b"crc32c=\xff", b",,,=")),
        *((b"x-upload-content-type", value) for value in (b"a\tb", b"\xff")),
        *((b"x-upload-content-length", value) for value in (b"-1", b"x", b"9" * 30, b"\xb2")),
        (b"if-match", b"*"), (b"if-match", b"\xff"), (b"if-none-match", b"*"), (b"content-length", b"x"),
    ]),
    max_size=2,
)  # fmt: skip
ODD = [
    b"null",
    b"[]",
    b"{}",
    b'""',
    b"1e400",
    b"NaN",
    b"9" * 400,
    b'"\\ud800"',
    b'"\\u0000"',
    b'"a\\r\\nb"',
    b'"\xc3\xa9"',
    b'{"seconds":1e400}',
    b"[null]",
    DEEP,
]
FIELDS = [
    *(b"name", b"contentType", b"metadata", b"cacheControl", b"contentEncoding", b"contentDisposition", b"customTime", b"storageClass", b"md5Hash", b"crc32c"),
    *(b"labels", b"location", b"iamConfiguration", b"lifecycle", b"etag", b"bindings", b"version", b"sourceObjects", b"destination", b"deleteSourceObjects"),
]
BODIES = st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(ODD), max_size=3).map(
    lambda fields: b"{" + b",".join(b'"%s":%s' % pair for pair in fields.items()) + b"}"
) | st.sampled_from([b"", b"\xff", b"{", b"NaN", b"[]", b'{"sourceObjects":[{"name":"a","generation":{}}]}', b'{"sourceObjects":[{"name":"a\\u0000"}]}'])
ROUTES = [
    *(("GET", path) for path in ("/b", "/b/{B}", "/b/{B}/storageLayout", "/b/{B}/managedFolders", "/b/{B}/iam", "/b/{B}/iam/testPermissions", "/b/{B}/o")),
    *(("POST", "/b"), ("PATCH", "/b/{B}"), ("PUT", "/b/{B}"), ("DELETE", "/b/{B}"), ("PUT", "/b/{B}/iam")),
    *((method, "/b/{B}/o/{N}") for method in ("GET", "PATCH", "PUT", "DELETE", "HEAD", "BREW")),
    *(("POST", f"/b/{{B}}/o/{{N}}/{rest}") for rest in ("compose", "copyTo/b/{B}/o/{N}", "rewriteTo/b/{B}/o/{N}", "moveTo/o/{N}")),
]
UPLOADS = [*(("POST", f"{prefix}/upload/storage/v1/b/{{B}}/o") for prefix in ("", "/resumable")), ("PUT", "/upload/storage/v1/b/{B}/o")]
MULTIPART = b"--x\r\nContent-Type: application/json\r\n\r\n%s\r\n--x\r\nContent-Type: %s\r\n\r\nabc\r\n--x--"
CALL = b"--x\r\nContent-Type: application/http\r\n%sContent-ID: %s\r\n\r\n%s\r\nHost: x\r\n\r\n%s\r\n"
Request = tuple[str, str, Headers, bytes]


@st.composite
def targets(draw: st.DrawFn, path: str, query: str = "") -> str:
    """A request's target by a route's path."""
    filled = re.sub("{[BN]}", lambda found: draw(BUCKETS if found[0] == "{B}" else NAMES), path)
    return f"{filled}?{'&'.join(filter(None, (query, draw(QUERIES))))}"


@st.composite
def calls(draw: st.DrawFn) -> Request:
    """A call of the API itself."""
    method, path = draw(st.sampled_from(ROUTES))
    return method, draw(targets(draw(st.sampled_from(["/storage/v1", ""])) + path)), draw(HEADERS), draw(BODIES)


@st.composite
def uploads(draw: st.DrawFn) -> Request:
    """An upload, or a part of one."""
    method, path = draw(st.sampled_from(UPLOADS))
    kind = draw(st.sampled_from(["media", "multipart", "resumable"]))
    media_type = draw(st.sampled_from([b"text/plain", b"", b"\xc3\xa9", b"=?utf-8?b?/w==?="]))
    content = MULTIPART % (draw(BODIES), media_type) if kind == "multipart" else draw(BODIES) if kind == "resumable" else b"abc"
    cut = draw(st.sampled_from([len(content)] * 5 + [5, 30]))
    headers = (*((b"content-type", b"multipart/related; boundary=x") for _ in range(kind == "multipart")), *draw(HEADERS))
    return method, draw(targets(path, f"uploadType={kind}&name={draw(NAMES)}")), headers, content[:cut]


@st.composite
def batches(draw: st.DrawFn) -> Request:
    """Several calls in one request."""
    parts = []
    for method, target, _, content in draw(st.lists(calls(), max_size=3)):
        lines = ["{} {} HTTP/1.1"] * 6 + ["{} {}", "", "{} http://[::1/{} HTTP/1.1", "{} //x/b{} HTTP/1.1", "{} \xe9{} HTTP/1.1", "{} /nothing{} HTTP/1.1"]
        line = draw(st.sampled_from(lines)).format(method, target).encode()
        encoding = draw(st.sampled_from([b""] * 4 + [b"Content-Transfer-Encoding: base64\r\n", b"Content-Transfer-Encoding: quoted-printable\r\n"]))
        parts.append(CALL % (encoding, draw(st.sampled_from([b"<a+1>", b"\xc3\xa9", b"<\r\n x>", b"=?utf-8?b?/w==?="])), line, content))
    return "POST", "/batch/storage/v1", ((b"content-type", b"multipart/mixed; boundary=x"), *draw(HEADERS)), b"".join(parts) + b"--x--"


def checked(answer: Answer, method: str) -> Answer:
    """The answer, if it is none of a bug."""
    assert answer.status < 500, answer.content
    assert not any(set(value) & set(b"\r\n\0") for _, value in answer.headers)
    assert not re.search(rb"HTTP/1.1 5\d\d|Traceback|detail", answer.content)
    if answer.status >= 400 and answer.status != 499 and method != "HEAD":
        assert answer.json()["error"]["code"] == answer.status
    return answer


@pytest.mark.usefixtures("unsynced")
def test_no_request_is_an_error_of_ours(application: FastAPI, current: Current, buckets: Buckets, folder: Path) -> None:
    current.buckets = buckets
    statuses = []

    @settings(max_examples=1200, derandomize=True, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(request=calls() | calls() | uploads() | batches())
    def send(request: Request) -> None:
        if len(statuses) % 10 == 0:
            ask(application, "POST", "/b", content=b'{"name":"bkt"}')
            ask(application, "POST", "/upload/storage/v1/b/bkt/o?uploadType=media&name=a", content=b"hello")
        method, target, headers, content = request
        statuses.append(checked(ask(application, method, target, headers=headers, content=content), method).status)

    send()
    assert len(statuses) > 1000
    assert {200, 400, 404, 409, 412} <= set(statuses)  # it got somewhere
    names = [bucket["name"] for bucket in checked(ask(application, "GET", "/storage/v1/b"), "GET").json()["items"]]
    assert "bkt" in names
    assert all(ask(application, "GET", f"/storage/v1/b/{name}/o").status == 200 for name in names)
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("value", [b"NaN", b"1e400", b'"\\ud800"', DEEP, b"[" * 2000])
def test_what_no_answer_can_hold_is_refused(http: TestClient, value: bytes) -> None:
    """Kept, it would spoil every list of buckets."""
    for path, field in (("/storage/v1/b/bkt", b"lifecycle"), ("/storage/v1/b/bkt/iam", b"bindings")):
        assert http.put(path, content=b'{"%s":%s}' % (field, value)).status_code == 400
    assert http.get("/storage/v1/b").json()["items"][0]["name"] == "bkt"


@pytest.mark.parametrize("name", ["a%00b", "%2e%2e%00", "x%2F%00%2Fy"])
def test_an_object_with_a_nul_is_not_there(http: TestClient, name: str) -> None:
    for path in (f"/storage/v1/b/bkt/o/{name}", f"/download/storage/v1/b/bkt/o/{name}"):
        assert http.get(path).status_code == 404
    assert http.post("/upload/storage/v1/b/bkt/o", params={"uploadType": "media", "name": "a\0b"}, content=b"x").status_code == 400


@pytest.mark.parametrize("line", ["GET http://[::1/b HTTP/1.1", "GET /b/bkt?x=\xaa HTTP/1.1", "GET /b/%ff/iam?x=\xaa HTTP/1.1"])
def test_an_address_that_is_none_refuses_its_batch(http: TestClient, line: str) -> None:
    body = CALL % (b"", b"<1>", line.encode("latin-1"), b"") + b"--x--"
    answer = http.post("/batch/storage/v1", content=body, headers={"content-type": "multipart/mixed; boundary=x"})
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["reason"] == "invalid"


def test_an_unknown_call_in_a_batch_is_refused_in_the_same_form(http: TestClient) -> None:
    body = CALL % (b"", b"<1>", b"GET /nothing HTTP/1.1", b"") + b"--x--"
    answer = http.post("/batch/storage/v1", content=body, headers={"content-type": "multipart/mixed; boundary=x"})
    assert b'"code":404,"message":"GET /nothing: there is no such method here.","errors"' in answer.content


@pytest.mark.parametrize("bucket", ["..", ".", "", ".tuneline", "a\0b"])
def test_a_name_that_is_no_buckets_is_never_looked_up(buckets: Buckets, folder: Path, bucket: str) -> None:
    (folder.parent / "outside").write_text("x")
    for work in (buckets.objects.admit, buckets.objects.get, buckets.objects.delete):
        with pytest.raises(StorageFault) as caught:
            work(Target(bucket=bucket, name="outside", conditions=ANYTHING))
        assert caught.value.code == 404
    assert buckets._records.generations(bucket, "outside") == []


def test_a_folder_is_closed_once_whatever_happens(tmp_path: Path) -> None:
    """Closed twice, it might be another thread's file by then."""
    closed = []
    with pytest.MonkeyPatch.context() as patch:
        close = os.close
        patch.setattr(os, "close", lambda descriptor: (closed.append(descriptor), close(descriptor)))
        with pytest.raises(ValueError, match="null"), opened(tmp_path, ("a\0b", "c")):
            pass
    assert len(closed) == 1
