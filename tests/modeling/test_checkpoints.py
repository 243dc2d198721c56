import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tuneline.errors import InfrastructureError, ModelError
from tuneline.modeling import checkpoints
from tuneline.modeling.checkpoints import (
    COMMIT,
    STATE,
    Checkpoint,
    adopt,
    checkpoint_path,
    final_checkpoint,
    list_checkpoints,
    newest_resumable,
    remove,
    remove_state,
    to_collect,
    verify,
    write_checkpoint,
    write_final,
)

CONTENTS = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40, STATE[0]: b"moments" * 9, STATE[1]: b'{"step": 1}'}


def fill(folder: Path) -> None:
    for name, content in CONTENTS.items():
        (folder / name).write_bytes(content)


def damage_by_flipping_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def damage_by_truncation(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_by_deletion(path: Path) -> None:
    path.unlink()


def damage_by_an_extra_file(path: Path) -> None:
    (path.parent / "model-00002-of-00002.safetensors").write_bytes(b"x")


def test_a_written_checkpoint_is_listed_and_whole(tmp_path: Path) -> None:
    for step in (20, 100, 40):
        write_checkpoint(tmp_path, step, fill)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [20, 40, 100]
    assert list_checkpoints(tmp_path)[0].path == tmp_path / "postprocess/node-0/checkpoints/checkpoint-20"
    for checkpoint in list_checkpoints(tmp_path):
        verify(checkpoint.path)


@pytest.mark.parametrize("damage", [damage_by_flipping_a_bit, damage_by_truncation, damage_by_deletion, damage_by_an_extra_file])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_damage_is_found_and_named(damage: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, fill).path
    damage(path / name)
    with pytest.raises(ModelError) as caught:
        verify(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("damage", [damage_by_flipping_a_bit, damage_by_truncation])
def test_damaged_training_state_is_found(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, fill).path
    damage(path / STATE[0])
    with pytest.raises(ModelError, match=STATE[0]):
        verify(path)


def test_every_damaged_file_is_named_at_once(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, fill).path
    damage_by_deletion(path / "config.json")
    damage_by_truncation(path / "model.safetensors")
    with pytest.raises(ModelError) as caught:
        verify(path)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("marker", [b"", b"{", b"[]", b'{"step": 1}', None])
def test_without_a_whole_marker_there_is_no_checkpoint(marker: bytes | None, tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 1, fill).path
    if marker is None:
        (path / COMMIT).unlink()
    else:
        (path / COMMIT).write_bytes(marker)
    assert list_checkpoints(tmp_path) == []
    with pytest.raises(ModelError, match=COMMIT):
        verify(path)


def test_leftovers_are_cleaned_by_the_next_save(tmp_path: Path) -> None:
    leftover = checkpoint_path(tmp_path, 5)
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half")
    write_checkpoint(tmp_path, 6, fill)
    assert not leftover.exists()
    write_checkpoint(tmp_path, 5, fill)
    assert [checkpoint.step for checkpoint in list_checkpoints(tmp_path)] == [5, 6]


def test_a_checkpoint_without_training_state_is_still_a_whole_model(tmp_path: Path) -> None:
    older, newer = write_checkpoint(tmp_path, 1, fill), write_checkpoint(tmp_path, 2, fill)
    remove_state(newer)
    verify(newer.path)
    assert newest_resumable(tmp_path) == older
    remove(older)
    assert newest_resumable(tmp_path) is None
    assert list_checkpoints(tmp_path) == [newer]


def test_final_is_the_last_checkpoint_without_its_training_state(tmp_path: Path) -> None:
    last = write_checkpoint(tmp_path, 7, fill)
    final = write_final(tmp_path, last)
    assert final_checkpoint(tmp_path) == final
    verify(final.path)
    assert sorted(path.name for path in final.path.iterdir()) == [COMMIT, "config.json", "model.safetensors"]
    assert (final.path / "model.safetensors").samefile(last.path / "model.safetensors")
    assert list_checkpoints(tmp_path) == [last]


def test_an_adopted_checkpoint_outlives_its_source(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "old", 3, fill)
    adopted = adopt(source, tmp_path / "new")
    shutil.rmtree(tmp_path / "old")
    verify(adopted.path)
    assert adopted.has_state


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    def run_out_of_space(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    good = write_checkpoint(tmp_path, 1, fill)
    with pytest.raises(InfrastructureError, match="No space left"):
        write_checkpoint(tmp_path, 2, run_out_of_space)
    assert list_checkpoints(tmp_path) == [good]
    verify(good.path)
    assert not checkpoint_path(tmp_path, 2).exists()


@pytest.fixture
def fail_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Callable[[], int]]]:
    """Has the n-th file system operation fail, as a crash or a broken disk would have it."""
    count, rmtree = 0, shutil.rmtree

    def arm(failing: int) -> Callable[[], int]:
        nonlocal count
        count = 0

        def counted(operation: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                nonlocal count
                count += 1
                if count == failing:
                    if operation is rmtree:
                        min(path for path in Path(str(arguments[0])).rglob("*") if path.is_file() and path.name != COMMIT).unlink()  # half done
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                return operation(*arguments, **options)

            return call

        for owner, name in ((os, "fsync"), (os, "link"), (Path, "write_text"), (Path, "write_bytes"), (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree")):
            monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
        return lambda: count

    yield arm
    monkeypatch.undo()


def test_whatever_operation_fails_all_that_is_listed_is_whole(
    tmp_path: Path, fail_at: Callable[[int], Callable[[], int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_and_collect(artifact: Path) -> None:
        older = list_checkpoints(artifact)[-1]
        write_final(artifact, write_checkpoint(artifact, 2, fill))
        remove_state(older)
        remove(older)

    failures = 0
    for failing in range(1, 200):
        artifact = tmp_path / str(failing)
        write_checkpoint(artifact, 1, fill)
        count = fail_at(failing)
        try:
            save_and_collect(artifact)
        except (OSError, InfrastructureError):
            failures += 1
        finished = count() < failing
        monkeypatch.undo()
        whole = list_checkpoints(artifact)
        assert whole
        for checkpoint in whole:
            verify(checkpoint.path)
        assert newest_resumable(artifact) is not None
        if finished:
            break
        write_checkpoint(artifact, 3, fill)  # the next save works, whatever was left behind
        assert newest_resumable(artifact) == Checkpoint(3, checkpoint_path(artifact, 3))
    assert failures > 10
    assert finished


def regular(step: int) -> bool:
    return step % 10 == 0


@pytest.mark.parametrize(
    ("steps", "protected", "keep", "expected"),
    [
        ([10, 20, 30], [], 3, []),
        ([10, 20, 30, 40], [], 3, [10]),
        ([10, 20, 30, 40], [10], 3, [20]),
        ([10, 20, 30, 40, 50], [10, 30], 3, [20, 40]),
        ([10, 13], [], 3, []),
        ([10, 13, 20], [], 3, [13]),
        ([10, 20, 30, 33], [], 3, [10]),
        ([], [], 3, []),
    ],
)
def test_the_oldest_are_collected_but_never_a_protected_or_the_newest_one(steps: list[int], protected: list[int], keep: int, expected: list[int]) -> None:
    assert to_collect(steps, protected=protected, regular=regular, keep=keep) == expected


def test_looking_at_checkpoints_loads_no_torch() -> None:
    program = "import sys, tuneline.modeling.checkpoints; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
    assert checkpoints.__doc__
