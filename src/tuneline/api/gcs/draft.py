"""Content that is arriving: written to a file of its own and hashed on the way, until an object takes it."""

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import google_crc32c

from tuneline.api.gcs.faults import StorageFault, invalid, too_large

CHUNK_BYTES = 1 << 20


class Hashes:
    """The two checksums of Cloud Storage, as base64."""

    def __init__(self) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._crc32c = 0

    def update(self, content: bytes) -> None:
        self._md5.update(content)
        self._crc32c = google_crc32c.extend(self._crc32c, content)

    @property
    def md5(self) -> str:
        return base64.b64encode(self._md5.digest()).decode()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(self._crc32c.to_bytes(4, "big")).decode()

    def check(self, expected: Mapping[str, str]) -> None:
        """Refuse content that is not what its sender had. `expected` may hold `md5` and `crc32c`."""
        for kind, found in (("md5", self.md5), ("crc32c", self.crc32c)):
            if expected.get(kind, found) != found:
                raise invalid(f"Provided {kind.upper()} {expected[kind]!r} doesn't match calculated {kind.upper()} {found!r}.")


class Draft:
    """A file in the making. It goes away at the end of the `with` block unless an object took it, or it is `kept`."""

    def __init__(self, path: Path, *, max_bytes: int, kept: bool = False) -> None:
        self.path, self.kept = path, kept
        self.size = 0
        self.hashes = Hashes()
        self._max_bytes = max_bytes
        self._file: BinaryIO | None = None

    @classmethod
    def found(cls, path: Path, *, max_bytes: int) -> "Draft":
        """What an earlier process left, to go on with."""
        draft = cls(path, max_bytes=max_bytes, kept=True)
        with path.open("rb") as file:
            while content := file.read(CHUNK_BYTES):
                draft.hashes.update(content)
                draft.size += len(content)
        return draft

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.rest()
        if not self.kept:
            self.path.unlink(missing_ok=True)

    def write(self, content: bytes) -> None:
        """Append."""
        if self.size + len(content) > self._max_bytes:
            raise too_large(self._max_bytes)
        if self._file is None:
            self._file = self.path.open("ab", buffering=0)
        try:
            left = memoryview(content)
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            self._file.truncate(self.size)
            raise
        self.hashes.update(content)
        self.size += len(content)

    def fill(self, source: BinaryIO, size: int) -> None:
        """Append `size` bytes of a file."""
        left = size
        while left:
            content = source.read(min(CHUNK_BYTES, left))
            if not content:
                raise StorageFault(503, "backendError", "A file became shorter while it was copied; try again.")
            self.write(content)
            left -= len(content)

    def rest(self) -> None:
        """Hold no file open until the next write."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def seal(self) -> None:
        """Bring the bytes to the disk."""
        self.rest()
        with self.path.open("ab") as file:
            os.fsync(file.fileno())

    def stamp(self, generation: int) -> int:
        """Give the file the time of its generation, by which its row is found again; the time that the disk could store, in nanoseconds."""
        with self.path.open("ab") as file:
            os.utime(file.fileno(), ns=(generation * 1000, generation * 1000))
            os.fsync(file.fileno())
            return os.fstat(file.fileno()).st_mtime_ns
