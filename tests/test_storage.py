"""Storage: local files on the disk, gs:// on fsspec's memory file system."""

import errno
import hashlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from tuneline.errors import DatasetError, InfrastructureError, TunelineError
from tuneline.storage import Storage, cloud_filesystem, join, local_filesystem


class Bucket(MemoryFileSystem):
    """A bucket in memory that counts generations, as Cloud Storage does."""

    cachable = False
    store: ClassVar[dict[str, object]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    facts: ClassVar[dict[str, tuple[int, str]]] = {}
    downloads: ClassVar[list[str]] = []

    def pipe_file(self, path: str, value: bytes, **kwargs: object) -> None:
        super().pipe_file(path, value, **kwargs)
        name = self._strip_protocol(path)
        self.facts[name] = (self.facts.get(name, (0, ""))[0] + 1, hashlib.sha1(value, usedforsecurity=False).hexdigest())

    def info(self, path: str, **kwargs: object) -> dict[str, object]:
        found = super().info(path, **kwargs)
        generation, checksum = self.facts.get(self._strip_protocol(path), (0, ""))
        return {**found, "generation": str(generation), "crc32c": checksum} if generation else found

    def open(self, path: str, mode: str = "rb", **kwargs: object) -> object:
        self.downloads += [path] if "r" in mode else []
        return super().open(path, mode, **kwargs)


@pytest.fixture
def storage() -> Storage:
    for held in (Bucket.store, Bucket.facts, Bucket.downloads):
        held.clear()
    Bucket.pseudo_dirs[:] = [""]
    return Storage({"file": local_filesystem, "gs": Bucket})


@pytest.fixture(params=["path", "file URI", "gs"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return {"path": str(tmp_path / "place"), "file URI": f"file://{tmp_path}/place", "gs": "gs://bucket/place"}[request.param]


def test_what_is_written_is_read_listed_and_found(storage: Storage, place: str) -> None:
    storage.write_text(join(place, "b/two.txt"), "zwei ü")
    storage.write_bytes(join(place, "one.bin"), b"\0\1")
    assert storage.list(place) == ["b/two.txt", "one.bin"]
    assert storage.read_text(join(place, "b/two.txt")) == "zwei ü"
    with storage.open(join(place, "one.bin")) as file:
        assert file.read() == b"\0\1"
    assert storage.exists(join(place, "one.bin"))
    assert not storage.exists(join(place, "three"))
    assert storage.is_folder(place)
    assert not storage.is_folder(join(place, "one.bin"))


def test_what_is_removed_is_gone_and_need_not_have_been_there(storage: Storage, place: str) -> None:
    for name in ("one", "two"):
        storage.write_text(join(place, name), name)
    storage.remove(join(place, "one"))
    storage.remove(join(place, "one"))
    assert storage.list(place) == ["two"]


def test_a_relative_path_is_a_local_path(storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage.write_text("folder/x.txt", "x")
    assert storage.list("folder") == ["x.txt"]
    assert storage.list("./folder/../folder/") == ["x.txt"]
    assert (tmp_path / "folder/x.txt").read_text() == "x"


@pytest.mark.parametrize(("source", "destination"), [("gs", "disk"), ("disk", "gs"), ("gs", "gs"), ("disk", "disk")])
def test_files_and_folders_are_copied_in_all_directions(storage: Storage, tmp_path: Path, source: str, destination: str) -> None:
    places = {"gs": "gs://bucket/", "disk": f"{tmp_path}/"}
    old, new = f"{places[source]}old", f"{places[destination]}new"
    storage.write_text(f"{old}/a.txt", "a")
    storage.write_text(f"{old}/b/c.txt", "c")
    storage.copy(old, new)
    assert {name: storage.read_text(join(new, name)) for name in storage.list(new)} == {"a.txt": "a", "b/c.txt": "c"}
    storage.copy(f"{old}/a.txt", f"{new}/renamed.txt")
    assert storage.read_text(f"{new}/renamed.txt") == "a"


def test_a_folders_commit_marker_is_copied_last(storage: Storage, tmp_path: Path) -> None:
    for name in ("COMMIT.json", "a.txt", "z.txt"):
        storage.write_text(f"{tmp_path}/old/{name}", name)
    storage.copy(f"{tmp_path}/old", "gs://bucket/new")
    assert list(Bucket.store) == ["/bucket/new/a.txt", "/bucket/new/z.txt", "/bucket/new/COMMIT.json"]


def test_an_empty_folder_is_not_copied(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="is an empty folder"):
        storage.copy(str(tmp_path / "empty"), "gs://bucket/x")


def test_an_object_name_cannot_lead_out_of_the_folder(storage: Storage, tmp_path: Path) -> None:
    storage.write_text("gs://bucket/folder/x", "x")
    Bucket.store["/bucket/folder/../../evil"] = Bucket.store["/bucket/folder/x"]
    with pytest.raises(DatasetError, match="leads out of the folder"):
        storage.copy("gs://bucket/folder", str(tmp_path / "here"))
    assert not list(tmp_path.rglob("evil"))


# Fingerprints


def test_a_local_fingerprint_is_the_hash_of_the_bytes(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 300_000)
    assert storage.fingerprint(str(tmp_path / "data")) == "sha256:" + hashlib.sha256(b"x" * 300_000).hexdigest()


def test_a_cloud_fingerprint_is_generation_and_checksum_without_a_download(storage: Storage) -> None:
    storage.write_text("gs://bucket/data", "one")
    first = storage.fingerprint("gs://bucket/data")
    storage.write_text("gs://bucket/data", "one")
    second = storage.fingerprint("gs://bucket/data")
    assert (first.split()[0], second.split()[0]) == ("generation:1", "generation:2")
    assert first.split()[1] == second.split()[1]
    assert Bucket.downloads == []


def test_a_store_without_generations_is_read(tmp_path: Path) -> None:
    storage = Storage({"file": local_filesystem, "gs": MemoryFileSystem})
    storage.write_text("gs://plain/data", "one")
    assert storage.fingerprint("gs://plain/data") == "sha256:" + hashlib.sha256(b"one").hexdigest()


def test_a_folders_fingerprint_follows_names_and_contents(storage: Storage, place: str) -> None:
    storage.write_text(join(place, "a"), "1")
    storage.write_text(join(place, "b"), "2")
    seen = [storage.fingerprint(place), storage.fingerprint(place)]
    storage.write_text(join(place, "b"), "3")
    seen.append(storage.fingerprint(place))
    storage.write_text(join(place, "c"), "")
    seen.append(storage.fingerprint(place))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


# Atomic writing


class FullDisk(LocalFileSystem):
    """Fails in the middle of a file."""

    cachable = False

    def get_file(self, source: str, target: str, **kwargs: object) -> None:
        Path(target).write_bytes(b"hal")
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    storage = Storage({"file": FullDisk})
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    with pytest.raises(InfrastructureError, match="No space left on device") as caught:
        storage.copy(str(tmp_path / "a"), str(tmp_path / "b"))
    assert caught.value.exit_code == 13
    assert "disk is not full" in caught.value.next_action
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "old"}


def test_writing_replaces_a_file_as_a_whole(storage: Storage, tmp_path: Path) -> None:
    target = tmp_path / "deep/er/file.txt"
    storage.write_text(str(target), "one")
    inode = target.stat().st_ino
    storage.write_text(str(target), "two")
    assert target.read_text() == "two"
    assert target.stat().st_ino != inode
    assert list(target.parent.iterdir()) == [target]


def test_a_written_file_can_be_read_by_others_as_the_umask_says(storage: Storage, tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_text("x")
    storage.write_text(str(ours), "x")
    assert ours.stat().st_mode == plain.stat().st_mode


# Faults


OPERATIONS = {
    "open": lambda storage, uri: storage.open(uri).__enter__(),
    "read": Storage.read_text,
    "fingerprint": Storage.fingerprint,
    "copy": lambda storage, uri: storage.copy(uri, f"{uri}-copy"),
}


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_missing_file_is_the_users_error_and_says_what_to_do(storage: Storage, place: str, operation: Callable[[Storage, str], object]) -> None:
    with pytest.raises(DatasetError, match="no such file or folder") as caught:
        operation(storage, join(place, "nothing"))
    assert join(place, "nothing") in str(caught.value)
    assert "Check the spelling" in caught.value.next_action


def test_a_folder_is_not_opened_as_a_file(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="folder where a file is expected"), storage.open(str(tmp_path)):
        pass


def test_text_that_is_not_utf8_is_refused(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"ab\xff")
    with pytest.raises(DatasetError, match="not UTF-8 text: byte 2"):
        storage.read_text(str(tmp_path / "latin"))


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("https://example.com/x.jsonl", "https:// is not read"), ("HTTP://example.com/x", "http:// is not read"), ("s3://bucket/x", "s3:// is not known"),
        ("hf://owner/model", "hf:// is not known"), ("", "names no file"), ("gs://", "names no file"), ("a\0b", "names no file"),
    ],
)  # fmt: skip
def test_other_schemes_are_refused_by_name(storage: Storage, uri: str, words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        storage.exists(uri)
    assert words in str(caught.value)
    assert caught.value.next_action


class HttpError(Exception):
    """Shaped like gcsfs's: no OSError, a code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"the service says {code}")
        self.code = code


@pytest.mark.parametrize(
    ("fault", "expected", "words"),
    [
        (PermissionError("no"), DatasetError, "access denied"),
        (OSError("Forbidden: bucket/x"), DatasetError, "access denied"),
        (HttpError(401), DatasetError, "access denied"),
        (HttpError(503), InfrastructureError, "the service says 503"),
        (TimeoutError("slow"), InfrastructureError, "slow"),
        (ConnectionResetError("gone"), InfrastructureError, "gone"),
        (ValueError("Bad Request: bucket/x"), DatasetError, "not a valid name"),
    ],
)
def test_faults_of_a_service_are_told_from_the_users(
    fault: Exception, expected: type[TunelineError], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    library = types.ModuleType("gcsfs.retry")
    library.HttpError = HttpError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gcsfs.retry", library)

    class Broken(MemoryFileSystem):
        cachable = False

        def info(self, path: str, **kwargs: object) -> dict[str, object]:
            raise fault

    for operation in (Storage.fingerprint, Storage.exists):
        with pytest.raises(expected, match=words):
            operation(Storage({"gs": Broken}), "gs://bucket/x")


def test_a_connection_that_breaks_while_reading_is_the_services_fault(storage: Storage) -> None:
    storage.write_text("gs://bucket/x", "text")
    with pytest.raises(InfrastructureError, match="gone"), storage.open("gs://bucket/x"):
        raise ConnectionResetError("gone")


def test_an_error_of_the_reader_is_its_own(storage: Storage) -> None:
    storage.write_text("gs://bucket/x", "text")
    with pytest.raises(KeyError), storage.open("gs://bucket/x"):
        raise KeyError("mine")


def test_gs_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(DatasetError, match="gcsfs, which is not installed") as caught:
        cloud_filesystem()
    assert "tuneline[gcs]" in caught.value.next_action


def test_local_files_do_not_need_the_cloud_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    Storage().write_text(str(tmp_path / "x"), "x")
    assert Storage().read_text(str(tmp_path / "x")) == "x"


def test_buckets_may_be_folders_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    storage = Storage()
    storage.write_text("gs://b/data/x.jsonl", "one")
    assert (tmp_path / "buckets" / "b" / "data" / "x.jsonl").read_text() == "one"
    assert storage.read_text("gs://b/data/x.jsonl") == "one"
    assert storage.list("gs://b/data") == ["x.jsonl"]
    storage.copy("gs://b/data", "gs://c/copy")
    assert storage.fingerprint("gs://c/copy/x.jsonl") == storage.fingerprint("gs://b/data/x.jsonl")
    for outside in ("gs://b/../../x", "gs://../x"):
        with pytest.raises(DatasetError, match="leads out"):
            storage.read_text(outside)
