"""Checkpoint folders: committed or not there at all, with the SHA-256 of every file.

    <artifact>/postprocess/node-0/checkpoints/checkpoint-20/   the weights and everything else that a model needs
                                              checkpoint-40/   ... the newest also has what training needs to go on (`STATE`)
                                              final/           the last step's weights, once training is done

A checkpoint exists only once its `COMMIT.json` does: files are written and flushed first, the marker last. A rename would do on a
local disk but is no atomic step on an object store. No torch here, so that any step can look.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError

from tuneline.errors import InfrastructureError, ModelError

LAYOUT = Path("postprocess/node-0/checkpoints")
COMMIT = "COMMIT.json"
STATE = ("optimizer.safetensors", "trainer_state.json")
"""What only training reads. These two may be deleted from a committed checkpoint; it stays a whole model."""
FINAL = "final"
TAKE_ANOTHER = "Take another checkpoint, or tune again."


@dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: the model after `step` training steps."""

    step: int
    path: Path

    @property
    def has_state(self) -> bool:
        """Whether training can go on from here."""
        return all((self.path / name).exists() for name in STATE)


@dataclass(frozen=True)
class _Entry:
    """A file as it was committed."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class _Commit:
    """The content of `COMMIT.json`."""

    step: int
    files: Mapping[str, _Entry]
    state: Mapping[str, _Entry]


def checkpoint_path(artifact: Path, step: int) -> Path:
    """Where the checkpoint of a step belongs."""
    return artifact / LAYOUT / f"checkpoint-{step}"


def list_checkpoints(artifact: Path) -> list[Checkpoint]:
    """The committed checkpoints by step, without `final` (which is one of them again)."""
    folders = (artifact / LAYOUT).glob("checkpoint-*")
    return sorted((Checkpoint(commit.step, folder) for folder in folders if (commit := _read_commit(folder))), key=lambda checkpoint: checkpoint.step)


def final_checkpoint(artifact: Path) -> Checkpoint | None:
    """`final`, once training is done."""
    folder = artifact / LAYOUT / FINAL
    commit = _read_commit(folder)
    return Checkpoint(commit.step, folder) if commit else None


def newest_resumable(artifact: Path) -> Checkpoint | None:
    """The newest committed checkpoint that training can go on from."""
    return next((checkpoint for checkpoint in reversed(list_checkpoints(artifact)) if checkpoint.has_state), None)


def verify(folder: Path) -> None:
    """Raise ModelError unless every file is there, unchanged, and nothing else is."""
    commit = _read_commit(folder)
    if commit is None:
        raise ModelError(f"{folder} has no readable {COMMIT}: it was never finished, or is damaged.", next_action=TAKE_ANOTHER)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()} - {COMMIT}
    expected = {**commit.files, **{name: entry for name, entry in commit.state.items() if name in present}}
    problems = [f"{folder / name} is missing." for name in sorted(expected.keys() - present)]
    problems += [f"{folder / name} does not belong to the checkpoint." for name in sorted(present - expected.keys())]
    for name in sorted(present & expected.keys()):
        size, entry = (folder / name).stat().st_size, expected[name]
        if size != entry.bytes:
            problems.append(f"{folder / name} has {size} bytes; expected {entry.bytes}.")
        elif sha256(folder / name) != entry.sha256:
            problems.append(f"{folder / name} is damaged: its SHA-256 is not the one in {COMMIT}.")
    if problems:
        raise ModelError(*problems, next_action=TAKE_ANOTHER)


def check_room(artifact: Path, num_bytes: int) -> None:
    """Raise InfrastructureError when the artifact cannot grow to that size: better now than at the last save."""
    artifact.mkdir(parents=True, exist_ok=True)
    there = sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file())
    free = shutil.disk_usage(artifact).free
    if free + there < num_bytes:
        raise InfrastructureError(
            f"{artifact} has {free / 2**30:.1f} GiB free; expected {(num_bytes - there) / 2**30:.1f} GiB for the checkpoints.",
            next_action="Make room on the disk, or evaluate less often: each evaluation leaves a checkpoint, up to ten.",
        )


def write_checkpoint(artifact: Path, step: int, write: Callable[[Path], None]) -> Checkpoint:
    """Have `write` fill the folder of a new checkpoint, then commit it."""
    return _write(artifact, checkpoint_path(artifact, step), step, write)


def write_final(artifact: Path, last: Checkpoint) -> Checkpoint:
    """Make `final` out of the last checkpoint: the same files once more, as hard links where the file system has them."""
    names = [name for name in _names(last) if name not in STATE]
    return _write(artifact, artifact / LAYOUT / FINAL, last.step, lambda folder: _link_files(last, names, folder))


def adopt(source: Checkpoint, artifact: Path) -> Checkpoint:
    """Make a checkpoint of another artifact one of this artifact, with what training needs to go on when it has that."""
    return _write(artifact, checkpoint_path(artifact, source.step), source.step, lambda folder: _link_files(source, _names(source), folder))


def _names(checkpoint: Checkpoint) -> list[str]:
    return [str(path.relative_to(checkpoint.path)) for path in checkpoint.path.rglob("*") if path.is_file() and path.name != COMMIT]


def _link_files(source: Checkpoint, names: Sequence[str], folder: Path) -> None:
    """Second names for files that nobody will change, or copies where links are not possible."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source.path / name, folder / name)
        except OSError:
            shutil.copyfile(source.path / name, folder / name)


def _write(artifact: Path, folder: Path, step: int, write: Callable[[Path], None]) -> Checkpoint:
    """Write and commit; a disk error leaves the earlier checkpoints as they were."""
    try:
        remove_leftovers(artifact)
        folder.mkdir(parents=True)
        write(folder)
        _commit(folder, step)
    except (OSError, SafetensorError) as error:
        if _read_commit(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)  # on a full disk its bytes are wanted back
        raise InfrastructureError(
            f"{folder}: the checkpoint could not be written: {error}",
            next_action="Make room on the disk and run again: training goes on from the checkpoint before.",
        ) from error
    return Checkpoint(step, folder)


def remove(checkpoint: Checkpoint) -> None:
    """Delete a checkpoint, its marker first, so that half of it is never taken for a whole one."""
    (checkpoint.path / COMMIT).unlink()
    shutil.rmtree(checkpoint.path)


def remove_state(checkpoint: Checkpoint) -> None:
    """Delete what only training reads."""
    for name in STATE:
        (checkpoint.path / name).unlink(missing_ok=True)


def remove_leftovers(artifact: Path) -> None:
    """Delete folders that were never committed."""
    for folder in [*(artifact / LAYOUT).glob("checkpoint-*"), artifact / LAYOUT / FINAL]:
        if folder.exists() and _read_commit(folder) is None:
            shutil.rmtree(folder)


def to_collect(steps: Sequence[int], *, protected: Iterable[int], regular: Callable[[int], bool], keep: int) -> list[int]:
    """Which of the checkpoints (steps in order) to delete: irregular ones that are not the newest, then the oldest unprotected ones."""
    newest, protected = steps[-1:], set(protected)
    irregular = [step for step in steps if not regular(step) and step not in newest]
    rest = [step for step in steps if step not in irregular]
    spare = [step for step in rest if step not in protected and step not in newest]
    return sorted([*irregular, *spare[: max(0, len(rest) - keep)]])


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _commit(folder: Path, step: int) -> None:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = {str(path.relative_to(folder)): _Entry(sha256=sha256(path), bytes=path.stat().st_size) for path in paths}
    for path in [*paths, folder]:
        _flush(path)
    files = {name: entry for name, entry in entries.items() if name not in STATE}
    commit = _Commit(step=step, files=files, state={name: entry for name, entry in entries.items() if name in STATE})
    # Written under its own name at once: a marker that was cut short is no JSON, and counts as none.
    (folder / COMMIT).write_text(json.dumps(asdict(commit), indent=1) + "\n", encoding="utf-8")
    for path in (folder / COMMIT, folder, folder.parent):
        _flush(path)


def _read_commit(folder: Path) -> _Commit | None:
    try:
        values = json.loads((folder / COMMIT).read_text(encoding="utf-8"))
        files, state = ({name: _Entry(**entry) for name, entry in values[key].items()} for key in ("files", "state"))
        return _Commit(step=int(values["step"]), files=files, state=state)
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _flush(path: Path) -> None:
    """Have the disk hold it before the next thing is written."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
