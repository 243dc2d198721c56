"""Files that are whole or absent: locks, atomic JSON, and copies that are checked byte for byte against a checkpoint's hashes."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tuneline.errors import InfrastructureError, ModelError

COMMIT = "COMMIT.json"
CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class FileHash:
    """Content of one file."""

    sha256: str
    bytes: int


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file; other processes wait. The kernel frees it when its holder dies, so a crash leaves nothing locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(path: Path) -> BinaryIO | None:
    """The open lock file, locked as long as it stays open; nothing when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace the file as a whole, on disk before this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        _flush(file.fileno())
    temporary.replace(path)
    flush_folder(path.parent)


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in the file, or nothing when there is no file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise InfrastructureError(f"{path}: not JSON ({error}); it was damaged after it was written.") from error
    if not isinstance(value, dict):
        raise InfrastructureError(f"{path}: expected a JSON object, found {type(value).__name__}.")
    return value


def committed_files(checkpoint: Path) -> dict[str, FileHash]:
    """The files that a checkpoint's commit marker vouches for."""
    try:
        return files_in((checkpoint / COMMIT).read_bytes(), str(checkpoint / COMMIT))
    except FileNotFoundError:
        raise no_commit(str(checkpoint)) from None


def files_in(commit: bytes, place: str) -> dict[str, FileHash]:
    """The files that the content of a commit marker names."""
    try:
        files = {str(name): FileHash(sha256=file["sha256"], bytes=file["bytes"]) for name, file in json.loads(commit)["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{place}: cannot be read as a commit marker ({type(error).__name__}).") from error
    outside = [name for name in files if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside or not files:
        raise ModelError(f"{place}: names {outside or 'no files'}; expected files below the checkpoint's folder.")
    return files


def no_commit(checkpoint: str) -> ModelError:
    """What is wrong with a checkpoint that was never finished."""
    return ModelError(f"{checkpoint}: no {COMMIT}; expected a finished checkpoint.", next_action="Tune again, or choose another checkpoint.")


def hashed_files(folder: Path, patterns: Sequence[str]) -> dict[str, FileHash]:
    """The files of a folder that has no commit marker, as they are now; those of its own level whose names match."""
    found = {}
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        found[path.name] = FileHash(sha256=digest, bytes=path.stat().st_size)
    return found


def copy_verified(source: Path, target: Path, files: Mapping[str, FileHash]) -> None:
    """Copy `files`, each with the content that its hash promises. Never links: two names of one file share later damage."""
    problems = []
    target.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        problems += _problems(source / name, expected, destination)
    flush_folder(target)
    _refuse(problems)


def verify(folder: Path, files: Mapping[str, FileHash]) -> None:
    """Refuse, by name, every file that is missing or no longer what its hash promises."""
    _refuse([problem for name, expected in files.items() for problem in _problems(folder / name, expected, None)])


def remove_folder(folder: Path) -> None:
    """Remove the folder and what is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _flush(descriptor)
    finally:
        os.close(descriptor)


def _problems(source: Path, expected: FileHash, destination: Path | None) -> list[str]:
    """Read `source` once: hash it and, when there is a destination, write the same bytes there."""
    digest, size = hashlib.sha256(), 0
    try:
        with contextlib.ExitStack() as stack:
            # A link could lead out of the checkpoint, and a pipe would never end.
            reader = stack.enter_context(os.fdopen(os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb"))
            if not stat.S_ISREG(os.fstat(reader.fileno()).st_mode):
                return [f"{source}: not a regular file."]
            writer = stack.enter_context(destination.open("wb")) if destination else None
            while chunk := reader.read(CHUNK_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if writer:
                    writer.write(chunk)
            if writer:
                writer.flush()
                _flush(writer.fileno())
    except FileNotFoundError:
        return [f"{source}: missing; {COMMIT} names it."]
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return [f"{source}: a symbolic link; expected the file itself."]
    if size != expected.bytes:
        return [f"{source}: {size} bytes; expected {expected.bytes}."]
    if digest.hexdigest() != expected.sha256:
        return [f"{source}: content has changed; SHA-256 is {digest.hexdigest()[:12]}..., expected {expected.sha256[:12]}...."]
    return []


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ModelError(*problems, next_action="The checkpoint is damaged. Choose another one, or tune again.")


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)
