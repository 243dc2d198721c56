"""google-cloud-storage, which google-cloud-aiplatform uses, too."""

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from google.api_core import exceptions
from google.cloud import storage

from tuneline.api.gcs import Buckets

NAMES = ["a", "folder/a b.txt", "folder/", "ü/ñ😀", "100%", "a+b", "a?b#c", "../x", "x" * 300, "o/b/copyTo/b/x/o/y", "compose", "a/compose"]


@pytest.fixture
def bucket(client: storage.Client) -> storage.Bucket:
    return client.create_bucket("bkt")


def put(bucket: storage.Bucket, name: str, content: bytes | str = b"content", **options: Any) -> storage.Blob:
    blob = bucket.blob(name)
    blob.upload_from_string(content, **options)
    return blob


def test_a_bucket_from_creation_to_deletion(client: storage.Client, folder: Path) -> None:
    assert not client.bucket("my-bucket").exists()
    bucket = client.create_bucket("my-bucket", location="europe-west4")
    assert client.bucket("my-bucket").exists()
    assert (folder / "my-bucket").is_dir()
    bucket.reload()
    assert (bucket.project_number, bucket.location, bucket.location_type, bucket.storage_class) == (123, "EUROPE-WEST4", "region", "STANDARD")
    with pytest.raises(exceptions.Conflict):
        client.create_bucket("my-bucket")
    with pytest.raises(exceptions.BadRequest, match="Invalid bucket name"):
        client.create_bucket("127.0.0.1")
    put(bucket, "x")
    with pytest.raises(exceptions.Conflict, match="not empty"):
        bucket.delete()
    bucket.delete(force=True)
    with pytest.raises(exceptions.NotFound):
        bucket.reload()
    assert not (folder / "my-bucket").exists()


def test_labels_are_patched_and_removed(client: storage.Client, bucket: storage.Bucket) -> None:
    bucket.labels = {"team": "a", "stage": "b"}
    bucket.iam_configuration.uniform_bucket_level_access_enabled = True
    bucket.patch()
    labels = bucket.labels
    labels.pop("team")
    bucket.labels = labels
    bucket.patch(if_metageneration_match=2)
    found = client.get_bucket("bkt")
    assert (found.labels, found.metageneration, found.iam_configuration.uniform_bucket_level_access_enabled) == ({"stage": "b"}, 3, True)
    assert found.iam_configuration.public_access_prevention == "inherited"
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.patch(if_metageneration_match=2)
    bucket.versioning_enabled = True
    with pytest.raises(exceptions.BadRequest, match="older generations are not kept"):
        bucket.patch()


def test_a_policy_is_noted(bucket: storage.Bucket) -> None:
    policy = bucket.get_iam_policy(requested_policy_version=3)
    assert not policy.bindings
    policy.bindings = [{"role": "roles/storage.objectViewer", "members": {"serviceAccount:x@y"}}]
    bucket.set_iam_policy(policy)
    assert [binding["role"] for binding in bucket.get_iam_policy().bindings] == ["roles/storage.objectViewer"]
    with pytest.raises(exceptions.PreconditionFailed):
        bucket.set_iam_policy(policy)
    assert bucket.test_iam_permissions(["storage.objects.get", "storage.objects.list"]) == ["storage.objects.get", "storage.objects.list"]


def test_buckets_are_listed_in_pages(client: storage.Client) -> None:
    for name in ("bkt-c", "bkt-a", "bkt-b", "other"):
        client.create_bucket(name)
    assert [bucket.name for bucket in client.list_buckets(prefix="bkt-", page_size=2)] == ["bkt-a", "bkt-b", "bkt-c"]


def test_objects_of_any_name_come_back(bucket: storage.Bucket) -> None:
    for name in NAMES:
        put(bucket, name, f"bytes of {name}", content_type="text/x-test")
    assert [blob.name for blob in bucket.list_blobs()] == sorted(NAMES)
    for name in NAMES:
        assert bucket.blob(name).download_as_text() == f"bytes of {name}"
        found = bucket.get_blob(name)
        assert (found.name, found.content_type) == (name, "text/x-test")
        assert found.download_as_text(raw_download=True) == f"bytes of {name}"
        found.delete()
        assert not found.exists()


@pytest.mark.parametrize("way", ["multipart", "resumable", "unknown size"])
def test_uploads_of_any_size_and_way_come_back(bucket: storage.Bucket, way: str, folder: Path) -> None:
    for size in (0, 1, 255 << 10, 256 << 10, 600 << 10):
        content = os.urandom(size)
        blob = bucket.blob("folder/x", chunk_size=None if way == "multipart" else 256 << 10)
        blob.metadata = {"key": "wert ü"}
        if way == "unknown size":
            with blob.open("wb", content_type="x/y") as file:
                file.write(content)
        else:
            blob.upload_from_file(io.BytesIO(content), size=size, content_type="x/y", rewind=True)
        assert (folder / "bkt" / "folder" / "x").read_bytes() == content
        found = bucket.get_blob("folder/x")
        assert (found.size, found.content_type, found.metadata) == (size, "x/y", {"key": "wert ü"})
        if way != "unknown size":  # a writer does not tell its blob
            assert (found.md5_hash, found.crc32c, found.generation) == (blob.md5_hash, blob.crc32c, blob.generation)
        assert found.download_as_bytes(checksum="md5") == content
        assert bucket.blob("folder/x", chunk_size=256 << 10).download_as_bytes() == content
    assert list((folder / ".tuneline" / "parts").iterdir()) == []


def test_ranges(bucket: storage.Bucket) -> None:
    put(bucket, "x", bytes(range(100)))
    blob = bucket.blob("x")
    assert blob.download_as_bytes(start=10, end=19) == bytes(range(10, 20))
    assert blob.download_as_bytes(start=90, end=1000) == bytes(range(90, 100))
    assert blob.download_as_bytes(start=-5) == bytes(range(95, 100))
    with pytest.raises(exceptions.RequestRangeNotSatisfiable):
        blob.download_as_bytes(start=100)
    with blob.open("rb", chunk_size=32) as file:
        file.seek(50)
        assert file.read(60) == bytes(range(50, 100))


def test_content_that_is_not_what_was_sent_is_refused(bucket: storage.Bucket) -> None:
    blob = bucket.blob("x")
    blob.md5_hash = "mZFLkyvTelC5g8XnyQrpOw=="
    with pytest.raises(exceptions.BadRequest, match="doesn't match calculated MD5"):
        blob.upload_from_string(b"other", checksum=None)
    assert not blob.exists()


def test_a_bucket_that_nobody_made_is_not_found(client: storage.Client) -> None:
    for size in (1, 20 << 20):
        with pytest.raises(exceptions.NotFound, match="bucket does not exist"):
            put(client.bucket("missing"), "x", bytes(size))
    with pytest.raises(exceptions.NotFound):
        list(client.list_blobs("missing"))


READS: dict[str, Callable[..., object]] = {
    "reload": lambda bucket, **conditions: bucket.blob("x").reload(**conditions),
    "download": lambda bucket, **conditions: bucket.blob("x").download_as_bytes(**conditions),
}
WRITES: dict[str, Callable[..., object]] = {
    "upload": lambda bucket, **conditions: bucket.blob("x").upload_from_string(b"new", **conditions),
    "resumable": lambda bucket, **conditions: bucket.blob("x", chunk_size=256 << 10).upload_from_file(io.BytesIO(b"new"), **conditions),
    "copy": lambda bucket, **conditions: bucket.copy_blob(bucket.blob("other"), bucket, "x", **conditions),
    "rewrite": lambda bucket, **conditions: bucket.blob("x").rewrite(bucket.blob("other"), **conditions),
    "move": lambda bucket, **conditions: bucket.move_blob(bucket.blob("other"), "x", **conditions),
}
CHANGES: dict[str, Callable[..., object]] = {
    "patch": lambda bucket, **conditions: bucket.blob("x").patch(**conditions),
    "update": lambda bucket, **conditions: bucket.blob("x").update(**conditions),
    "delete": lambda bucket, **conditions: bucket.blob("x").delete(**conditions),
}


@pytest.mark.parametrize("name", [*READS, *WRITES, *CHANGES])
def test_preconditions_on_an_object_that_is_there(bucket: storage.Bucket, name: str) -> None:
    act = {**READS, **WRITES, **CHANGES}[name]
    put(bucket, "other", b"other")
    generation = put(bucket, "x", b"old").generation
    for conditions in ({"if_generation_match": 0}, {"if_generation_match": generation + 1}, {"if_metageneration_match": 2}):
        with pytest.raises(exceptions.PreconditionFailed, match="conditions you specified did not hold"):
            act(bucket, **conditions)
    for conditions in ({"if_generation_not_match": generation}, {"if_metageneration_not_match": 1}):
        with pytest.raises(exceptions.NotModified):
            act(bucket, **conditions)
    assert bucket.blob("x").download_as_bytes() == b"old"
    act(bucket, if_generation_match=generation, if_metageneration_match=1)


@pytest.mark.parametrize("name", WRITES)
def test_preconditions_on_an_object_that_is_not(bucket: storage.Bucket, name: str) -> None:
    put(bucket, "other", b"other")
    for conditions in ({"if_generation_match": 5}, {"if_metageneration_match": 1}):
        with pytest.raises(exceptions.PreconditionFailed):
            WRITES[name](bucket, **conditions)
    with pytest.raises(exceptions.NotModified):
        WRITES[name](bucket, if_generation_not_match=0)
    assert not bucket.blob("x").exists()
    WRITES[name](bucket, if_generation_match=0)


def test_only_the_live_generation_is_there(bucket: storage.Bucket) -> None:
    old = put(bucket, "x", b"old").generation
    new = put(bucket, "x", b"new").generation
    assert new > old
    assert bucket.blob("x", generation=new).download_as_bytes() == b"new"
    for act in (lambda blob: blob.download_as_bytes(), lambda blob: blob.reload(), lambda blob: blob.delete()):
        with pytest.raises(exceptions.NotFound, match="No such object"):
            act(bucket.blob("x", generation=old))


def test_listings(client: storage.Client, bucket: storage.Bucket) -> None:
    for name in ("a.txt", "a/1", "a/2/x", "b/1", "c"):
        put(bucket, name)
    listed = lambda **options: [blob.name for blob in client.list_blobs("bkt", **options)]  # noqa: E731
    assert listed(page_size=2) == ["a.txt", "a/1", "a/2/x", "b/1", "c"]
    assert listed(prefix="a/") == ["a/1", "a/2/x"]
    assert listed(start_offset="a/2", end_offset="c") == ["a/2/x", "b/1"]
    assert listed(max_results=3) == ["a.txt", "a/1", "a/2/x"]
    pages = client.list_blobs("bkt", delimiter="/", page_size=1)
    assert [blob.name for blob in pages] == ["a.txt", "c"]
    assert pages.prefixes == {"a/", "b/"}
    with pytest.raises(exceptions.BadRequest, match="matchGlob"):
        listed(match_glob="**/1")


def test_copies_keep_what_is_known_and_rewrites_may_change_it(client: storage.Client, bucket: storage.Bucket) -> None:
    source = bucket.blob("source")
    source.metadata, source.cache_control = {"a": "b"}, "no-store"
    source.upload_from_string(b"content", content_type="text/x-test")
    other = client.create_bucket("other")
    copied = bucket.copy_blob(source, other, "a/b")
    assert (copied.metadata, copied.cache_control, copied.content_type) == ({"a": "b"}, "no-store", "text/x-test")
    assert other.blob("a/b").download_as_bytes() == b"content"
    target = other.blob("rewritten")
    target.metadata = {"c": "d"}
    assert target.rewrite(source) == (None, 7, 7)
    target.reload()
    assert (target.metadata, target.content_type, target.crc32c) == ({"c": "d"}, "text/x-test", source.crc32c)
    with pytest.raises(exceptions.NotFound, match="No such object: bkt/missing"):
        target.rewrite(bucket.blob("missing"))
    with pytest.raises(exceptions.PreconditionFailed):
        target.rewrite(source, if_source_generation_match=1)


def test_composing(bucket: storage.Bucket) -> None:
    parts = [put(bucket, name, name.encode()) for name in ("one", "two", "three")]
    whole = bucket.blob("whole")
    whole.content_type = "text/x-whole"
    whole.compose(parts, if_generation_match=0)
    assert (whole.download_as_bytes(), whole.component_count, whole.content_type) == (b"onetwothree", 3, "text/x-whole")
    whole.compose([whole, parts[0]])
    assert (whole.download_as_bytes(), whole.component_count) == (b"onetwothreeone", 4)
    with pytest.raises(exceptions.PreconditionFailed):
        whole.compose(parts, if_source_generation_match=[parts[0].generation, 1, None])
    with pytest.raises(exceptions.BadRequest, match="expected 1 to 32"):
        whole.compose(parts * 11)


def test_metadata_is_patched_key_by_key_and_replaced_by_updates(bucket: storage.Bucket) -> None:
    blob = put(bucket, "x", content_type="text/plain")
    blob.metadata = {"a": "1", "b": "2"}
    blob.patch()
    blob.metadata = {"b": None, "c": "3"}
    blob.patch()
    found = bucket.get_blob("x")
    assert (found.metadata, found.metageneration, found.content_type) == ({"a": "1", "c": "3"}, 3, "text/plain")
    assert found.generation == blob.generation
    found.metadata = {"only": "this"}
    found.content_type = "text/x-new"
    found.update()
    found = bucket.get_blob("x")
    assert (found.metadata, found.content_type) == ({"only": "this"}, "text/x-new")


def test_batches(client: storage.Client, bucket: storage.Bucket) -> None:
    for name in ("a/1", "ü 2", "3"):
        put(bucket, name)
    with client.batch():
        blob = bucket.blob("3")
        blob.metadata = {"größe": "groß"}
        blob.patch()
        bucket.delete_blob("a/1")
        bucket.blob("ü 2").delete()
    assert blob.metadata == {"größe": "groß"}
    assert [found.name for found in bucket.list_blobs()] == ["3"]
    with client.batch(raise_exception=False) as batch:
        bucket.delete_blob("missing")
        bucket.delete_blob("3")
    assert [answer.status_code for answer in batch._responses] == [404, 204]


def test_compressed_content_is_read_back_uncompressed(bucket: storage.Bucket) -> None:
    blob = bucket.blob("x.gz")
    blob.content_encoding = "gzip"
    blob.upload_from_string(gzip.compress(b"text"))
    assert bucket.blob("x.gz").download_as_bytes() == b"text"


def test_a_resumable_upload_goes_on_after_a_restart(bucket: storage.Bucket, buckets: Buckets, folder: Path, current: Any) -> None:
    blob = bucket.blob("x")
    content = os.urandom(600 << 10)
    session = blob.create_resumable_upload_session(content_type="x/y", size=len(content), if_generation_match=0)
    chunk = {"Content-Range": f"bytes 0-{(256 << 10) - 1}/{len(content)}"}
    assert requests.put(session, data=content[: 256 << 10], headers=chunk, timeout=10).status_code == 308
    buckets.close()
    current.buckets = Buckets(folder)
    answer = requests.put(session, headers={"Content-Range": f"bytes */{len(content)}"}, timeout=10)
    assert (answer.status_code, answer.headers["Range"]) == (308, f"bytes=0-{(256 << 10) - 1}")
    rest = {"Content-Range": f"bytes {256 << 10}-{len(content) - 1}/{len(content)}"}
    answer = requests.put(session, data=content[256 << 10 :], headers=rest, timeout=10)
    assert (answer.status_code, answer.json()["size"]) == (200, str(len(content)))
    assert blob.download_as_bytes() == content
    current.buckets.close()
