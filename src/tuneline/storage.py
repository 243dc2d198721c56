"""Files at gs:// URIs and local paths, behind one small interface.

`/gcs/...` and `file://...` are local paths. With TUNELINE_GCS_FOLDER set, `gs://bucket/name` is `bucket/name` in that folder: the buckets
of the tuning service, for the jobs that it runs, which must not depend on the service being up. Reading, listing and copying say the same
things for both kinds; what is missing or forbidden is the user's error, a disk or service that fails is an `InfrastructureError`.
"""

import hashlib
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from tuneline.errors import DatasetError, InfrastructureError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

COMMIT_MARKER = "COMMIT.json"
"""Proof that a folder is whole. Copied last, so that a copy that was cut off has none."""

GCS_FOLDER = "TUNELINE_GCS_FOLDER"

CLOUD_ERRORS = [
    ("gcsfs.retry", "HttpError"),
    ("google.auth.exceptions", "GoogleAuthError"),
    ("google.api_core.exceptions", "GoogleAPIError"),
    ("aiohttp.client_exceptions", "ClientError"),
]
"""What gcsfs lets through besides OSError, by module: only an imported library can have raised."""


def cloud_filesystem() -> "AbstractFileSystem":
    """Cloud Storage through gcsfs, without a listing cache: other processes write while we look."""
    try:
        import gcsfs  # noqa: F401  # an extra, loaded only for gs:// URIs
    except ModuleNotFoundError:
        raise DatasetError("gs:// URIs need the package gcsfs, which is not installed.", next_action="Install it: pip install 'tuneline[gcs]'") from None
    if os.environ.get("STORAGE_EMULATOR_HOST", "default") not in ("", "default"):
        # gcsfs' other class asks for a bucket's kind by gRPC, which no emulator answers, and waits a minute. Nobody's Google credentials go there, either.
        from gcsfs.core import GCSFileSystem

        emulator: AbstractFileSystem = GCSFileSystem(token="anon", use_listings_cache=False)
        return emulator
    import fsspec

    return fsspec.filesystem("gs", use_listings_cache=False)


def local_filesystem() -> "AbstractFileSystem":
    """The disk of this machine."""
    import fsspec

    return fsspec.filesystem("file")


@dataclass(frozen=True)
class Storage:
    """Reads and writes by URI. `filesystems` says which file system serves a scheme; plain paths are `file`."""

    filesystems: Mapping[str, Callable[[], "AbstractFileSystem"]] = field(default_factory=lambda: {"file": local_filesystem, "gs": cloud_filesystem})

    @contextmanager
    def open(self, uri: str) -> Iterator[IO[bytes]]:
        """The file's bytes, for streaming."""
        filesystem, path = self._locate(uri)
        with _explained(uri):
            file = filesystem.open(path, "rb")
        with file:
            try:
                yield file
            except _service_errors() as error:
                raise _unreachable(uri, error) from error

    def read_text(self, uri: str) -> str:
        """The whole file as UTF-8 text."""
        with self.open(uri) as file:
            try:
                return file.read().decode("utf-8")
            except UnicodeDecodeError as error:
                raise DatasetError(f"{uri} is not UTF-8 text: byte {error.start} cannot be read.", next_action="Save the file as UTF-8.") from error

    def exists(self, uri: str) -> bool:
        """Whether there is a file or folder."""
        return self._kind(uri) != ""

    def is_folder(self, uri: str) -> bool:
        """Whether there is a folder, or on gs:// a prefix with objects below it."""
        return self._kind(uri) == "directory"

    def list(self, uri: str) -> list[str]:
        """The names of all files below a folder, relative to it, sorted."""
        filesystem, path = self._locate(uri)
        with _explained(uri):
            names = [found.lstrip("/").removeprefix(path.strip("/")).lstrip("/") for found in filesystem.find(path)]
        for name in names:
            if ".." in PurePosixPath(name).parts:
                raise DatasetError(f"{uri} holds a file {name!r}, whose name leads out of the folder.", next_action="Rename or delete it.")
        return sorted(name for name in names if name)

    def write_bytes(self, uri: str, content: bytes) -> None:
        """Write a file as a whole: a reader sees the old content or the new, never half of it."""
        filesystem, path = self._locate(uri)
        with _explained(uri):
            if _is_local(uri):
                with _replacing(Path(path)) as temporary:
                    temporary.write_bytes(content)
            else:
                filesystem.pipe_file(path, content)

    def write_text(self, uri: str, content: str) -> None:
        """Write UTF-8 text as a whole."""
        self.write_bytes(uri, content.encode("utf-8"))

    def remove(self, uri: str) -> None:
        """Delete a file, if there is one."""
        filesystem, path = self._locate(uri)
        with _explained(uri), suppress(FileNotFoundError):
            filesystem.rm_file(path)

    def copy(self, source: str, destination: str) -> None:
        """Copy a file, or a folder with all that lies below it, to a new name. A folder's commit marker comes last."""
        if not self.is_folder(source):
            self._copy_file(source, destination)
            return
        names = self.list(source)
        if not names:
            raise DatasetError(f"{source} is an empty folder; expected files in it.", next_action="Check the spelling of the URI.")
        for name in sorted(names, key=lambda name: PurePosixPath(name).name == COMMIT_MARKER):
            self._copy_file(join(source, name), join(destination, name))

    def fingerprint(self, uri: str) -> str:
        """Text that changes when the bytes of a file, or of any file in a folder, change.

        Cloud Storage is asked for generation and CRC32C, so that nothing is downloaded; elsewhere the bytes are hashed.
        """
        if self.is_folder(uri):
            lines = [f"{name} {self.fingerprint(join(uri, name))}\n" for name in self.list(uri)]
            return "folder:" + hashlib.sha256("".join(lines).encode()).hexdigest()
        filesystem, path = self._locate(uri)
        with _explained(uri):
            facts = filesystem.info(path)
        if facts.get("generation") and facts.get("crc32c"):
            return f"generation:{facts['generation']} crc32c:{facts['crc32c']}"
        with self.open(uri) as file:
            return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # reads any binary file

    def _kind(self, uri: str) -> str:
        """`file`, `directory` or nothing. Asked by `info`: the `exists` of many file systems says no to a service that fails."""
        filesystem, path = self._locate(uri)
        with _explained(uri):
            try:
                return str(filesystem.info(path)["type"])
            except FileNotFoundError:
                return ""

    def _copy_file(self, source: str, destination: str) -> None:
        filesystem, path = self._locate(source)
        target_filesystem, target = self._locate(destination)
        with _explained(source, destination):
            if _is_local(destination):
                with _replacing(Path(target)) as temporary:
                    filesystem.get_file(path, str(temporary))
            elif _is_local(source):
                target_filesystem.put_file(path, target)
            else:
                filesystem.cp_file(path, target)

    def _locate(self, uri: str) -> tuple["AbstractFileSystem", str]:
        """The file system of a URI and the path in it."""
        scheme, path = _split(uri)
        if scheme in ("http", "https"):
            raise DatasetError(f"{uri}: {scheme}:// is not read.", next_action="Download the file and give its path, or copy it to a gs:// URI.")
        if scheme not in self.filesystems:
            raise DatasetError(f"{uri}: {scheme}:// is not known; expected a path or a gs:// URI.", next_action="Copy the file there.")
        if not path.strip("/") or "\0" in path:
            raise DatasetError(f"{uri!r} names no file; expected a path or gs://BUCKET/NAME.", next_action="Give the whole URI.")
        return self.filesystems[scheme](), str(Path(path).resolve()) if scheme == "file" else path


def content_of(fingerprint: str) -> str:
    """What a file's fingerprint says of its bytes alone: on Cloud Storage the same bytes, written again, have another generation."""
    return re.sub(r"^generation:\d+ ", "", fingerprint)


def join(uri: str, name: str) -> str:
    """The URI of a file in a folder."""
    return f"{uri.rstrip('/')}/{name}"


def _split(uri: str) -> tuple[str, str]:
    """Scheme and path; a plain path has the scheme `file`."""
    match = re.fullmatch(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", uri, re.DOTALL)
    scheme, path = (match[1].lower(), match[2]) if match else ("file", uri)
    folder = os.environ.get(GCS_FOLDER, "")
    if scheme == "gs" and folder and path.strip("/"):
        if ".." in PurePosixPath(path).parts:
            raise DatasetError(f"{uri}: '..' leads out of the bucket.", next_action="Give the whole URI.")
        if path.startswith("."):  # what the service keeps beside its buckets
            raise DatasetError(f"{uri}: no bucket's name begins with a dot.", next_action="Check the spelling.")
        return "file", f"{folder}/{path}"
    return scheme, path


def _is_local(uri: str) -> bool:
    return _split(uri)[0] == "file"


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its name once it is written and on disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _explained(*uris: str) -> Iterator[None]:
    """Turn what file systems raise into errors that say what to do."""
    where = " -> ".join(uris)
    try:
        yield
    except FileNotFoundError as error:
        raise DatasetError(f"{where}: no such file or folder.", next_action="Check the spelling, and that it lies where this job runs.") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise DatasetError(f"{where}: found a folder where a file is expected, or the reverse.", next_action="Give the URI of the file itself.") from error
    except ValueError as error:
        raise DatasetError(f"{where}: not a valid name: {error}", next_action="Check the spelling of the URI.") from error
    except OSError as error:
        if isinstance(error, PermissionError) or str(error).startswith("Forbidden"):
            raise _denied(where) from error
        raise _unreachable(where, error) from error
    except _service_errors() as error:
        if getattr(error, "code", None) in (401, 403):
            raise _denied(where) from error
        raise _unreachable(where, error) from error


def _denied(where: str) -> DatasetError:
    action = "Let this account read and write there. On gs://: roles/storage.objectUser on the bucket, and gcloud auth application-default login."
    return DatasetError(f"{where}: access denied.", next_action=action)


def _unreachable(where: str, error: BaseException) -> InfrastructureError:
    return InfrastructureError(f"{where}: {type(error).__name__}: {error}", next_action="Try again; on this machine, check that the disk is not full.")


def _service_errors() -> tuple[type[BaseException], ...]:
    """The classes that mean: the service or the way to it failed."""
    loaded = [(sys.modules.get(module), name) for module, name in CLOUD_ERRORS]
    return (TimeoutError, ConnectionError, *(getattr(module, name) for module, name in loaded if module))
