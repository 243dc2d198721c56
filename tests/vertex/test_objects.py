"""Objects by google-cloud-storage against the tuning service's Cloud Storage."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from tests.api.endpoint_bench import listening
from tuneline.api.gcs import Buckets, router_of
from tuneline.errors import InfrastructureError, NotFoundError, UserError
from tuneline.vertex.objects import ABSENT, Objects, StoredObject, locations, open_client

storage: Any = pytest.importorskip("google.cloud.storage")
exceptions: Any = pytest.importorskip("google.api_core.exceptions")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    buckets, app = Buckets(tmp_path_factory.mktemp("buckets")), FastAPI()
    app.include_router(router_of(buckets))
    with listening(app) as url:
        yield url
    buckets.close()


@pytest.fixture
def objects(address: str, monkeypatch: pytest.MonkeyPatch) -> Objects:
    """Cloud Storage with a bucket."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    objects = Objects()
    objects.ensure_bucket("bucket", project="acme", region="europe-west4")
    return objects


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    """An object that only this test has. A name may hold anything."""
    return f"gs://bucket/{request.node.name}/a?b#c %d/ü"


def test_what_is_not_there_is_nothing(objects: Objects, uri: str) -> None:
    assert objects.read(uri) is None
    with pytest.raises(UserError, match="not an object"):
        objects.read("gs://b")


def test_only_one_of_two_writers_makes_an_object_or_replaces_it(objects: Objects, uri: str) -> None:
    first = objects.write(uri, b"1", generation=ABSENT)
    assert first
    assert objects.write(uri, b"2", generation=ABSENT) is None
    second = objects.write(uri, b"2", generation=first)
    assert objects.write(uri, b"3", generation=first) is None
    assert objects.read(uri) == (b"2", second)


def test_an_object_that_is_replaced_while_it_is_read_is_read_anew(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = objects.write(uri, b"old", generation=ABSENT)
    original, replaced = storage.Blob.reload, []

    def reload(blob: Any, **options: Any) -> None:
        original(blob, **options)
        if not replaced:
            replaced.append(objects.write(uri, b"new", generation=first or 0))

    monkeypatch.setattr(storage.Blob, "reload", reload)
    assert objects.read(uri) == (b"new", replaced[0])


def test_ones_own_write_is_known_when_its_answer_was_lost(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library asks again and is told that the condition does not hold any more."""
    original = storage.Blob.upload_from_string

    def twice(blob: Any, *given: Any, **options: Any) -> None:
        original(blob, *given, **options)
        original(blob, *given, **options)

    monkeypatch.setattr(storage.Blob, "upload_from_string", twice)
    generation = objects.write(uri, b"mine", generation=ABSENT)
    assert objects.read(uri) == (b"mine", generation)
    assert objects.write(uri, b"other", generation=ABSENT) is None


def test_a_folder_is_listed_by_relative_names_without_placeholders(objects: Objects, uri: str) -> None:
    for name in ("a.json", "deep/b#?.bin", "deep/"):
        objects.write(f"{uri}/{name}", name.encode(), generation=ABSENT)
    objects.write(f"{uri}-beside", b"x", generation=ABSENT)
    found = objects.list(uri)
    assert found.keys() == {"a.json", "deep/b#?.bin"}
    assert found["a.json"].num_bytes == 6
    assert objects.list(f"{uri}/nothing") == {}


def test_what_a_listing_lacks_and_should_have_is_asked_for_by_name(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.write(f"{uri}/young", b"abc", generation=ABSENT)
    monkeypatch.setattr(objects.client, "list_blobs", lambda *_args, **_options: [])
    assert objects.list(uri) == {}
    found = objects.list(uri, ["young", "missing"])
    assert {name: stored.num_bytes for name, stored in found.items()} == {"young": 3}


def test_a_copy_has_the_checksum_of_its_original(objects: Objects, uri: str) -> None:
    objects.write(f"{uri}/from", b"weights", generation=ABSENT)
    objects.copy(f"{uri}/from", f"{uri}/to")
    found = objects.list(uri)
    assert isinstance(found["to"], StoredObject)
    assert found["to"] == found["from"]
    with pytest.raises(NotFoundError, match="no such object"):
        objects.copy(f"{uri}/nothing", f"{uri}/to")


def test_a_large_object_is_copied_in_several_calls(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original, tokens = storage.Blob.rewrite, []

    def rewrite(blob: Any, source: Any, token: str | None = None, **options: Any) -> Any:
        tokens.append(token)
        return original(blob, source, **options) if token == "second" else ("second" if token else "first", 1, 7)

    objects.write(f"{uri}/from", b"weights", generation=ABSENT)
    monkeypatch.setattr(storage.Blob, "rewrite", rewrite)
    objects.copy(f"{uri}/from", f"{uri}/to")
    assert tokens == [None, "first", "second"]
    assert objects.read(f"{uri}/to") is not None


def test_a_copy_of_other_bytes_is_noticed(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def rewrite(blob: Any, source: Any, **_: Any) -> Any:
        blob._set_properties({"crc32c": "AAAAAA==", "size": "7"})
        return None, 7, 7

    objects.write(f"{uri}/from", b"weights", generation=ABSENT)
    monkeypatch.setattr(storage.Blob, "rewrite", rewrite)
    with pytest.raises(InfrastructureError, match="CRC32C AAAAAA=="):
        objects.copy(f"{uri}/from", f"{uri}/to")


def test_the_projects_bucket_is_made_once_with_its_key_and_uniform_access(objects: Objects) -> None:
    key = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    for _ in range(2):
        objects.ensure_bucket("acme-tuneline-europe-west4", project="acme", region="europe-west4", key=key)
    bucket = objects.client.get_bucket("acme-tuneline-europe-west4")
    assert bucket.default_kms_key_name == key
    assert bucket.iam_configuration.uniform_bucket_level_access_enabled
    assert objects.bucket_location(bucket.name) == "europe-west4"
    assert locations(objects, {"dataset_uri": f"gs://{bucket.name}/x", "base_model_uri": "gs://no-such-bucket/x"}) == {
        "dataset_uri": (bucket.name, "europe-west4")
    }


def test_a_bucket_of_somebody_else_is_refused(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project does not list it, and its name is taken."""
    monkeypatch.setattr(objects.client, "list_buckets", lambda **_: [])
    with pytest.raises(UserError, match="belongs to another project than acme"):
        objects.ensure_bucket("bucket", project="acme", region="europe-west4")


def test_a_bucket_that_another_process_makes_at_the_same_time_is_ours(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [[], [objects.client.bucket("bucket")]]
    monkeypatch.setattr(objects.client, "list_buckets", lambda **_: answers.pop(0))
    objects.ensure_bucket("bucket", project="acme", region="europe-west4")
    assert answers == []


@pytest.mark.parametrize(
    ("raised", "kind", "words"),
    [
        ("Forbidden", UserError, "access denied"),
        ("ServiceUnavailable", InfrastructureError, "ServiceUnavailable"),
        ("BadRequest", UserError, "BadRequest"),
        ("TooManyRequests", InfrastructureError, "TooManyRequests"),
        ("TransportError", InfrastructureError, "TransportError"),
    ],
)
def test_failures_are_told_apart(objects: Objects, uri: str, monkeypatch: pytest.MonkeyPatch, raised: str, kind: type[Exception], words: str) -> None:
    from google.auth.exceptions import TransportError

    error = TransportError("no token") if raised == "TransportError" else getattr(exceptions, raised)("no")

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(storage.Blob, "reload", fail)
    with pytest.raises(kind, match=words):
        objects.read(uri)


def test_without_credentials_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with pytest.raises(UserError, match="no Google credentials") as caught:
        open_client()
    assert "gcloud auth application-default login" in caught.value.next_action
