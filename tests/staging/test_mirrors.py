"""Copies that are kept up while a step writes: what is there at any moment can be gone on from."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tuneline.errors import InfrastructureError
from tuneline.modeling.checkpoints import STATE, Checkpoint, list_checkpoints, newest_resumable, remove, remove_state, verify, write_checkpoint, write_final
from tuneline.staging.mirrors import CommittedFolders, GrowingFiles
from tuneline.storage import Storage

URI = "gs://b/run/checkpoints"


class CutOff(Storage):
    """A storage whose every change is seen by `at_change`, which may end it."""

    at_change: Callable[[str], None] = staticmethod(lambda _uri: None)

    def copy(self, source: str, destination: str) -> None:
        super().copy(source, destination)
        if destination.startswith("gs://"):
            type(self).at_change(destination)

    def write_text(self, uri: str, content: str) -> None:
        super().write_text(uri, content)
        type(self).at_change(uri)

    def remove(self, uri: str) -> None:
        super().remove(uri)
        type(self).at_change(uri)


class Bench:
    """The folder that a step writes, and its copy as a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.here, self.there = folder / "disk", folder / "buckets/b/run/checkpoints"
        self.storage = CutOff()

    def mirror(self, here: Path | None = None) -> CommittedFolders:
        return CommittedFolders(here or self.here, URI, self.storage, self.folder / "held")

    def save(self, step: int) -> Checkpoint:
        """What the trainer does: a new checkpoint, then the state of the older ones goes."""

        def fill(folder: Path) -> None:
            for name in ("model.safetensors", "config.json", *STATE):
                (folder / name).write_text(f"{name} of {step}")

        written = write_checkpoint(self.here, step, fill)
        for older in list_checkpoints(self.here)[:-1]:
            remove_state(older)
        return written

    def files(self, root: Path) -> dict[str, str]:
        return {path.relative_to(root).as_posix(): path.read_text() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("TUNELINE_GCS_FOLDER", str(tmp_path / "buckets"))
    monkeypatch.setattr(CutOff, "at_change", lambda _uri: None)
    return Bench(tmp_path)


def test_the_copy_follows_the_folder(bench: Bench) -> None:
    mirror = bench.mirror()
    mirror.update()
    assert not bench.there.exists()
    for step in (10, 20, 30):
        bench.save(step)
        mirror.update()
        assert bench.files(bench.there) == bench.files(bench.here)
    remove(list_checkpoints(bench.here)[0])
    write_final(bench.here, list_checkpoints(bench.here)[-1])
    mirror.update()
    assert bench.files(bench.there) == bench.files(bench.here)
    assert [checkpoint.step for checkpoint in list_checkpoints(bench.there)] == [20, 30]


def test_what_is_still_being_written_is_not_copied(bench: Bench) -> None:
    bench.save(10)
    unfinished = bench.here / "postprocess/node-0/checkpoints/checkpoint-20"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_text("half")
    mirror = bench.mirror()
    mirror.update()
    (unfinished / "COMMIT.json").write_text('{"step": 20, "fi')
    mirror.update()
    assert [Path(name).parts[-2] for name in bench.files(bench.there)] == ["checkpoint-10"] * 5


def test_an_unchanged_folder_costs_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = bench.mirror()
    bench.save(10)
    mirror.update()
    changes: list[str] = []
    monkeypatch.setattr(CutOff, "at_change", changes.append)
    mirror.update()
    assert changes == []


def test_cut_off_anywhere_the_next_machine_goes_on_from_the_newest_that_was_whole(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change that a step's life makes at the URI is once the last one."""

    class End(Exception):
        pass

    def life(last_change: int) -> bool:
        """Whether it came to its end."""
        changes = 0

        def count(_uri: str) -> None:
            nonlocal changes
            changes += 1
            if changes == last_change:
                raise End

        for folder in (bench.here, bench.there):
            shutil.rmtree(folder, ignore_errors=True)
        monkeypatch.setattr(CutOff, "at_change", count)
        mirror = bench.mirror()
        try:
            for step in (10, 20, 30):
                bench.save(step)
                mirror.update()
            remove(list_checkpoints(bench.here)[0])
            mirror.update()
        except End:
            return False
        return True

    seen, last = set(), 0
    while not life(last := last + 1):
        monkeypatch.setattr(CutOff, "at_change", lambda _uri: None)
        second = bench.folder / f"second-{last}"
        bench.mirror(second).fetch()
        for checkpoint in list_checkpoints(second):
            verify(checkpoint.path)
        newest = newest_resumable(second)
        there = [checkpoint.step for checkpoint in list_checkpoints(bench.there)]
        assert (newest.step if newest else None) == (max(there) if there else None)
        seen.add(newest.step if newest else 0)
    assert seen == {0, 10, 20, 30}
    assert last > 15


def test_files_that_the_step_deletes_while_they_are_copied_arrive_all_the_same(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bench.save(10)

    def delete(uri: str) -> None:
        if uri.endswith("config.json"):
            remove_state(first)

    monkeypatch.setattr(CutOff, "at_change", delete)
    mirror = bench.mirror()
    mirror.update()
    assert not first.has_state
    monkeypatch.setattr(CutOff, "at_change", lambda _uri: None)
    newest = newest_resumable(bench.there)
    assert newest is None  # copied, and deleted at the end of the same look, as here
    assert bench.files(bench.there) == bench.files(bench.here)


def test_of_a_folder_that_is_being_deleted_nothing_is_taken_away_before_its_marker(bench: Bench) -> None:
    mirror = bench.mirror()
    doomed = bench.save(10)
    bench.save(20)
    mirror.update()
    (doomed.path / "model.safetensors").unlink()  # the marker first, then the files; here the other way round
    mirror.update()
    assert [checkpoint.step for checkpoint in list_checkpoints(bench.there)] == [10, 20]
    for checkpoint in list_checkpoints(bench.there):
        verify(checkpoint.path)
    (doomed.path / "COMMIT.json").unlink()
    mirror.update()
    assert [Path(name).parts[-2] for name in bench.files(bench.there)] == ["checkpoint-20"] * 5


def test_a_folder_that_lacks_a_file_is_not_copied(bench: Bench) -> None:
    (bench.save(10).path / "model.safetensors").unlink()
    bench.mirror().update()
    assert not bench.there.exists()


def test_an_attempt_that_goes_on_copies_nothing_twice_and_cleans_up_after_the_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = bench.mirror()
    for step in (10, 20):
        bench.save(step)
    mirror.update()
    leftovers = [bench.there / "postprocess/node-0/checkpoints/checkpoint-30/model.safetensors", list_checkpoints(bench.there)[0].path / ".x.part"]
    for leftover in leftovers:
        leftover.parent.mkdir(exist_ok=True)
        leftover.write_text("half")
    shutil.rmtree(bench.here)
    second = bench.mirror()
    second.fetch()
    changes: list[str] = []
    monkeypatch.setattr(CutOff, "at_change", changes.append)
    second.update()
    assert sorted(changes) == sorted(f"gs://{leftover.relative_to(bench.folder / 'buckets')}" for leftover in leftovers)
    assert bench.files(bench.there) == bench.files(bench.here)


def test_a_copy_that_fails_is_made_at_the_next_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_uri: str) -> None:
        raise InfrastructureError("the network is gone")

    bench.save(10)
    monkeypatch.setattr(CutOff, "at_change", fail)
    mirror = bench.mirror()
    with pytest.raises(InfrastructureError):
        mirror.update()
    assert list_checkpoints(bench.there) == []
    monkeypatch.setattr(CutOff, "at_change", lambda _uri: None)
    mirror.update()
    assert bench.files(bench.there) == bench.files(bench.here)
    assert not (bench.folder / "held").exists()


def test_growing_files_are_copied_when_they_have_changed_and_replace_those_of_an_earlier_attempt(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.storage.write_text("gs://b/run/checkpoints/events.1", "of the attempt before")
    mirror = GrowingFiles(bench.here, URI, bench.storage)
    mirror.update()
    assert bench.files(bench.there) == {"events.1": "of the attempt before"}
    bench.here.mkdir()
    events = bench.here / "events.2"
    changes: list[str] = []
    monkeypatch.setattr(CutOff, "at_change", changes.append)
    for text in ("a", "ab", "ab"):
        if not events.exists() or events.read_text() != text:
            events.write_text(text)
            os.utime(events, ns=(len(text), len(text)))
        mirror.update()
        assert bench.files(bench.there) == {"events.2": text}
    assert changes == [f"{URI}/events.2", f"{URI}/events.1", f"{URI}/events.2"]
