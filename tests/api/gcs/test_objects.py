"""Objects as files: what people see, what happens to files of theirs, and that nothing leads out of the folder."""

import base64
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneline.api.gcs import Buckets
from tuneline.api.gcs.conditions import Conditions
from tuneline.api.gcs.faults import StorageFault
from tuneline.api.gcs.listing import Question
from tuneline.api.gcs.objects import Target
from tuneline.api.gcs.records import ObjectRecord
from tuneline.storage import Storage

AWKWARD = ["folder/", "/rooted", "a//b", "../outside", "../../outside", "./x", "x/..", "x/../../../outside", "l" * 300, "\\..\\x", "ü\u202e", "-rf", "%2e%2e/x"]


@pytest.fixture(autouse=True)
def bucket(buckets: Buckets) -> None:
    buckets.insert("bkt", {})


def target(name: str, **conditions: int) -> Target:
    return Target(bucket="bkt", name=name, conditions=Conditions(**conditions))


def write(buckets: Buckets, name: str, content: bytes, **conditions: int) -> ObjectRecord:
    with buckets.objects.draft() as draft:
        draft.write(content)
        return buckets.objects.commit(draft, target(name, **conditions), {"contentType": "text/plain", "metadata": {"of": name}})


def read(buckets: Buckets, name: str) -> bytes:
    _, file = buckets.objects.open(target(name))
    with file:
        return file.read()


def names(buckets: Buckets) -> list[str]:
    return buckets.objects.list("bkt", Question())[1].items


def test_an_object_is_a_plain_file_at_the_path_of_its_name(buckets: Buckets, folder: Path) -> None:
    write(buckets, "data/train 1.jsonl", b"one")
    assert (folder / "bkt" / "data" / "train 1.jsonl").read_bytes() == b"one"
    buckets.objects.delete(target("data/train 1.jsonl"))
    assert list((folder / "bkt").iterdir()) == []


def test_what_is_known_of_an_object_outlives_the_service(buckets: Buckets, folder: Path) -> None:
    before = [write(buckets, name, b"x") for name in ("a", "b/")]
    buckets.close()
    again = Buckets(folder)
    assert [again.objects.get(target(name)) for name in ("a", "b/")] == before
    again.close()


def test_a_file_put_into_the_folder_is_an_object(buckets: Buckets, folder: Path) -> None:
    (folder / "bkt" / "by" / "hand").mkdir(parents=True)
    (folder / "bkt" / "by" / "hand" / "x.json").write_bytes(b"{}")
    record = buckets.objects.get(target("by/hand/x.json"))
    assert (record.size, record.properties, record.md5) == (2, {"contentType": "application/json"}, "mZFLkyvTelC5g8XnyQrpOw==")
    assert buckets.objects.get(target("by/hand/x.json")) == record
    assert names(buckets) == ["by/hand/x.json"]


def test_a_file_changed_in_the_folder_is_a_new_generation(buckets: Buckets, folder: Path) -> None:
    first = write(buckets, "a", b"one")
    (folder / "bkt" / "a").write_bytes(b"two")
    second = buckets.objects.get(target("a"))
    assert second.generation > first.generation
    assert second.md5 != first.md5
    with pytest.raises(StorageFault, match="generation"):
        write(buckets, "a", b"three", generation_match=first.generation)
    (folder / "bkt" / "a").unlink()
    assert write(buckets, "a", b"four", generation_match=0).generation > second.generation


def test_contents_of_one_size_written_in_one_moment_are_told_apart(buckets: Buckets) -> None:
    generations = [write(buckets, "a", content).generation for content in (b"one", b"two", b"six")]
    assert generations == sorted(set(generations))
    expected = base64.b64encode(hashlib.md5(b"six", usedforsecurity=False).digest()).decode()
    assert [record.md5 for record in buckets.objects.list("bkt", Question())[0]] == [expected]


def test_a_new_folder_is_a_bucket_and_other_things_are_not(buckets: Buckets, folder: Path) -> None:
    (folder / "by-hand").mkdir()
    (folder / "Not A Bucket").mkdir()
    (folder / "file").write_text("x")
    (folder / "link").symlink_to(folder / "bkt")
    assert [record.name for record in buckets.list(Question())[0]] == ["bkt", "by-hand"]
    for name in ("Not A Bucket", "file", "link", ".tuneline", "..", "missing"):
        with pytest.raises(StorageFault, match="bucket does not exist") as caught:
            buckets.get(name)
        assert caught.value.code == 404


def test_a_file_that_a_job_is_still_writing_is_no_object(buckets: Buckets, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    replace = Path.replace

    def look(path: Path, to: Path) -> Path:
        seen.append(names(buckets))
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", look)
    Storage().write_text(str(folder / "bkt" / "out" / "metrics.json"), "{}")
    assert seen == [[]]
    assert names(buckets) == ["out/metrics.json"]


@pytest.mark.parametrize("name", AWKWARD)
def test_a_name_that_cannot_be_a_path_works_and_stays_inside(buckets: Buckets, folder: Path, tmp_path: Path, name: str) -> None:
    around = {path for path in tmp_path.rglob("*") if folder not in path.parents}
    write(buckets, name, b"content")
    assert read(buckets, name) == b"content"
    assert names(buckets) == [name]
    assert buckets.objects.get(target(name)).properties["metadata"] == {"of": name}
    assert {path for path in tmp_path.rglob("*") if folder not in path.parents} == around
    write(buckets, name, b"again")
    assert read(buckets, name) == b"again"
    buckets.objects.delete(target(name))
    assert names(buckets) == []
    assert not [path for path in folder.rglob("*") if path.is_file() and "sqlite" not in path.name]


def test_a_name_may_begin_another(buckets: Buckets, folder: Path) -> None:
    contents = {"a": b"1", "a/b": b"2", "a/b/c": b"3", "x/y": b"4", "x": b"5", "x/": b"6"}
    for name, content in contents.items():
        write(buckets, name, content)
    assert {name: read(buckets, name) for name in names(buckets)} == contents
    for name in ("a", "x/y"):
        buckets.objects.delete(target(name))
    write(buckets, "a/b", b"now a path")
    assert (folder / "bkt" / "a" / "b").read_bytes() == b"now a path"
    assert names(buckets) == ["a/b", "a/b/c", "x", "x/"]
    assert read(buckets, "a/b/c") == b"3"


def test_links_are_neither_followed_nor_replaced(buckets: Buckets, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (folder / "bkt" / "folder").symlink_to(outside)
    (folder / "bkt" / "file").symlink_to(outside / "secret")
    assert names(buckets) == []
    for name in ("folder/secret", "file"):
        with pytest.raises(StorageFault, match="No such object"):
            buckets.objects.open(target(name))
        write(buckets, name, b"mine")
        assert read(buckets, name) == b"mine"
        buckets.objects.delete(target(name))
    write(buckets, "folder/new", b"mine")
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").read_text() == "secret"
    assert (folder / "bkt" / "file").is_symlink()
    assert (folder / "bkt" / "folder").is_symlink()


def test_pipes_and_names_that_are_no_text_are_left_alone(buckets: Buckets, folder: Path) -> None:
    os.mkfifo(folder / "bkt" / "pipe")
    (Path(os.fsdecode(bytes(folder / "bkt") + b"/\xff"))).write_text("x")
    (folder / "bkt" / "line\nbreak").write_text("x")
    assert names(buckets) == []
    write(buckets, "pipe", b"mine")
    assert read(buckets, "pipe") == b"mine"


def test_of_concurrent_writers_with_one_condition_exactly_one_wins(buckets: Buckets) -> None:
    for generation in (0, write(buckets, "other", b"x").generation):
        name = "other" if generation else "new"
        results: list[ObjectRecord | int] = []
        start = threading.Barrier(8)

        def attempt(
            number: int, name: str = name, generation: int = generation, start: threading.Barrier = start, results: list[ObjectRecord | int] = results
        ) -> None:
            start.wait()
            try:
                results.append(write(buckets, name, b"%d" % number, generation_match=generation))
            except StorageFault as fault:
                results.append(fault.code)

        threads = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results, key=str)[:7] == [412] * 7
        (winner,) = [result for result in results if isinstance(result, ObjectRecord)]
        assert buckets.objects.get(target(name)) == winner


def test_generations_grow_even_when_the_clock_goes_back(buckets: Buckets, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(buckets, "a", b"x").generation
    monkeypatch.setattr("tuneline.api.gcs.records.time.time_ns", lambda: 1_000_000)
    assert write(buckets, "b", b"x").generation == first + 1
    buckets.objects.delete(target("b"))
    buckets.close()
    again = Buckets(folder)
    assert write(again, "b", b"x").generation == first + 2
    again.close()


@pytest.mark.parametrize("before", [b"old", None])
@pytest.mark.parametrize("name", ["a", "a/"])
def test_a_crash_while_an_object_takes_its_name_leaves_the_old_one_whole(
    buckets: Buckets, folder: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None, name: str
) -> None:
    old = write(buckets, name, before) if before else None

    def crash(*_: object, **__: object) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr("tuneline.api.gcs.objects.os.rename", crash)
        patch.setattr("tuneline.api.gcs.records.Records.forget", crash)  # nothing is tidied up after a crash
        with pytest.raises(SystemExit):
            write(buckets, name, b"new")
    buckets.close()
    again = Buckets(folder)
    if old is None:
        assert names(again) == []
        assert write(again, name, b"new", generation_match=0).properties["metadata"] == {"of": name}
    else:
        assert again.objects.get(target(name)) == old
        assert read(again, name) == before
    again.close()


def test_a_full_disk_leaves_the_old_object_and_no_rest(buckets: Buckets, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(buckets, "a", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuneline.api.gcs.draft.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(buckets, "a", b"new")
    assert read(buckets, "a") == b"old"
    assert list((folder / ".tuneline" / "parts").iterdir()) == []


def test_a_reader_keeps_what_it_opened(buckets: Buckets) -> None:
    first = write(buckets, "a", b"old")
    record, file = buckets.objects.open(target("a"))
    write(buckets, "a", b"new")
    with file:
        assert (record, file.read()) == (first, b"old")


def test_a_bucket_with_things_that_are_no_objects_is_not_deleted(buckets: Buckets, folder: Path, tmp_path: Path) -> None:
    (folder / "bkt" / "empty" / "folders").mkdir(parents=True)
    (folder / "bkt" / "empty" / "link").symlink_to(tmp_path)
    with pytest.raises(StorageFault, match="no objects") as caught:
        buckets.delete("bkt")
    assert caught.value.code == 409
    (folder / "bkt" / "empty" / "link").unlink()
    buckets.delete("bkt")
    assert not (folder / "bkt").exists()
    assert tmp_path.exists()


@pytest.mark.parametrize("place", ["a", "a/"])
def test_a_bucket_made_anew_knows_nothing_of_the_old(buckets: Buckets, folder: Path, place: str) -> None:
    write(buckets, place, b"old")
    for path in sorted((folder / "bkt").rglob("*"), reverse=True):
        path.unlink()
    (folder / "bkt").rmdir()
    with pytest.raises(StorageFault, match="bucket does not exist"):
        buckets.objects.get(target(place))
    buckets.insert("bkt", {})
    assert names(buckets) == []


def test_checksums_of_large_files_do_not_hold_up_a_listing(buckets: Buckets, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuneline.api.gcs.objects.MAX_HASHED_IN_LISTS", 3)
    for name, content in (("large", b"1234"), ("small", b"123")):
        (folder / "bkt" / name).write_bytes(content)
    listed: Callable[[], list[bool]] = lambda: [bool(record.crc32c) for record in buckets.objects.list("bkt", Question())[0]]  # noqa: E731
    assert listed() == [False, True]
    assert buckets.objects.get(target("large")).crc32c
    assert listed() == [True, True]
