"""gcsfs, and `tuneline.storage` through it, with nothing set but STORAGE_EMULATOR_HOST."""

import os
from pathlib import Path

import pytest
from fsspec import AbstractFileSystem

from tuneline.api.gcs import Buckets
from tuneline.errors import DatasetError
from tuneline.storage import COMMIT_MARKER, Storage, cloud_filesystem, join


@pytest.fixture(autouse=True)
def emulator(address: str, buckets: Buckets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
    buckets.insert("bkt", {})


@pytest.fixture
def gcs() -> AbstractFileSystem:
    return cloud_filesystem()


def test_no_credentials_of_the_user_are_sent_to_an_emulator(gcs: AbstractFileSystem) -> None:
    headers: dict[str, str] = {}
    gcs.credentials.apply(headers)
    assert headers == {}


def test_google_is_asked_when_there_is_no_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr("fsspec.filesystem", lambda *names, **options: asked.append((names, options)))
    for value in ("", "default"):
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", value)
        cloud_filesystem()
    assert asked == [(("gs",), {"use_listings_cache": False})] * 2


def test_files_of_any_name_and_size_come_back(gcs: AbstractFileSystem, tmp_path: Path) -> None:
    sizes = {"x": 0, "folder/a b.txt": 10, "ü/100%+": 6 << 20, "a/compose": 1}
    for name, size in sizes.items():
        (tmp_path / "local").write_bytes(os.urandom(size))
        gcs.put_file(str(tmp_path / "local"), f"bkt/{name}")
        assert gcs.cat_file(f"bkt/{name}") == (tmp_path / "local").read_bytes()
        gcs.get_file(f"bkt/{name}", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == (tmp_path / "local").read_bytes()
        assert gcs.info(f"bkt/{name}")["size"] == size
    assert gcs.find("bkt") == sorted(f"bkt/{name}" for name in sizes)


def test_content_that_looks_like_the_end_of_a_body_comes_back(gcs: AbstractFileSystem) -> None:
    for content in (b"", b"\r", b"\r\n", b"x\r", b"\n--==0==--", b"\n--==0==\nContent-Type: a/b\n\n", b"--==0==--\r\n\r\n", b" \t\n"):
        gcs.pipe_file("bkt/x", content)
        assert gcs.cat_file("bkt/x") == content


def test_an_open_file_is_written_in_chunks_and_read_in_ranges(gcs: AbstractFileSystem) -> None:
    content = os.urandom(600 << 10)
    with gcs.open("bkt/x", "wb", block_size=256 << 10) as file:
        for start in range(0, len(content), 100_000):
            file.write(content[start : start + 100_000])
    with gcs.open("bkt/x", "rb", block_size=64 << 10) as file:
        file.seek(300_000)
        assert file.read(1000) == content[300_000:301_000]
    assert gcs.cat_file("bkt/x", start=-10) == content[-10:]


def test_an_upload_that_is_given_up_leaves_nothing(gcs: AbstractFileSystem, folder: Path) -> None:
    file = gcs.open("bkt/x", "wb", block_size=256 << 10, autocommit=False)
    file.write(os.urandom(600 << 10))
    file.close()
    assert list((folder / ".tuneline" / "parts").iterdir())
    file.discard()
    assert not list((folder / ".tuneline" / "parts").iterdir())
    assert not gcs.exists("bkt/x")


def test_creating_only_succeeds_once(gcs: AbstractFileSystem) -> None:
    gcs.pipe_file("bkt/x", b"first", mode="create")
    with pytest.raises(FileExistsError):
        gcs.pipe_file("bkt/x", b"second", mode="create")
    assert gcs.cat_file("bkt/x") == b"first"


def test_folders_are_listed_moved_merged_and_removed(gcs: AbstractFileSystem) -> None:
    for name in ("a/1", "a/b/2", "c"):
        gcs.pipe_file(f"bkt/{name}", name.encode())
    assert gcs.ls("bkt", detail=False) == ["bkt/a", "bkt/c"]
    assert gcs.ls("bkt/a", detail=False) == ["bkt/a/1", "bkt/a/b"]
    gcs.mv("bkt/c", "bkt/d")
    gcs.merge("bkt/e", ["bkt/a/1", "bkt/d"])
    assert gcs.cat_file("bkt/e") == b"a/1c"
    gcs.setxattrs("bkt/e", key="value")
    assert gcs.getxattr("bkt/e", "key") == "value"
    gcs.rm("bkt/a", recursive=True)
    assert gcs.find("bkt") == ["bkt/d", "bkt/e"]
    assert gcs.buckets == ["bkt/"]


def test_more_objects_than_a_page_holds_are_all_found(gcs: AbstractFileSystem, folder: Path) -> None:
    (folder / "bkt" / "many").mkdir()
    for number in range(1005):
        (folder / "bkt" / "many" / f"{number:04}").touch()
    found = gcs.find("bkt/many")
    assert found == [f"bkt/many/{number:04}" for number in range(1005)]


def test_bulk_deletion_by_batch(gcs: AbstractFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a/1", "b 2"):
        gcs.pipe_file(f"bkt/{name}", b"x")
    monkeypatch.setattr(type(gcs), "on_google", True)  # gcsfs sends batches to Google only
    gcs.rm(["bkt/a/1", "bkt/b 2"])
    assert gcs.find("bkt") == []


def test_storage_reads_writes_lists_and_copies(tmp_path: Path, folder: Path) -> None:
    storage = Storage()
    storage.write_text("gs://bkt/run/a/one.txt", "eins ü")
    storage.write_bytes(f"gs://bkt/run/{COMMIT_MARKER}", b"{}")
    assert (folder / "bkt" / "run" / "a" / "one.txt").read_text() == "eins ü"
    assert storage.list("gs://bkt/run") == [COMMIT_MARKER, "a/one.txt"]
    assert storage.read_text("gs://bkt/run/a/one.txt") == "eins ü"
    assert (storage.is_folder("gs://bkt/run"), storage.is_folder("gs://bkt/run/a/one.txt"), storage.exists("gs://bkt/other")) == (True, False, False)
    for destination in ("gs://bkt/copy", str(tmp_path / "here"), "gs://bkt/back"):
        storage.copy("gs://bkt/run" if destination != "gs://bkt/back" else str(tmp_path / "here"), destination)
        assert storage.list(destination) == [COMMIT_MARKER, "a/one.txt"]
        assert storage.read_text(join(destination, "a/one.txt")) == "eins ü"
    with pytest.raises(DatasetError, match="no such file"), storage.open("gs://bkt/missing"):
        pass
    with pytest.raises(DatasetError, match="no such file"):
        storage.write_text("gs://missing/x", "x")


def test_a_commit_marker_is_copied_last(buckets: Buckets) -> None:
    storage = Storage()
    for name in (COMMIT_MARKER, "model.safetensors", "z"):
        storage.write_text(f"gs://bkt/a/{name}", name)
    storage.copy("gs://bkt/a", "gs://bkt/b")
    generations = {name: storage.fingerprint(f"gs://bkt/b/{name}") for name in storage.list("gs://bkt/b")}
    assert max(generations, key=lambda name: generations[name]) == COMMIT_MARKER


def test_a_fingerprint_is_the_generation_and_changes_with_it(folder: Path) -> None:
    storage = Storage()
    storage.write_text("gs://bkt/x", "same")
    first = storage.fingerprint("gs://bkt/x")
    assert first.startswith("generation:")
    assert first == storage.fingerprint("gs://bkt/x")
    storage.write_text("gs://bkt/x", "same")
    second = storage.fingerprint("gs://bkt/x")
    (folder / "bkt" / "x").write_text("changed by hand")
    assert len({first, second, storage.fingerprint("gs://bkt/x")}) == 3


def test_no_bucket_is_asked_for_its_kind_by_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """gcsfs' other class does, and waits a minute for every bucket of an emulator."""
    asked: list[object] = []
    monkeypatch.setattr("gcsfs.extended_gcsfs.ExtendedGcsFileSystem._get_bucket_type", lambda _, bucket: asked.append(bucket))
    assert Storage().list("gs://bkt/none") == []
    assert asked == []
