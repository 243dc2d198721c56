"""Output folders that are copied to Cloud Storage while the step still writes them, so that a machine that is taken away costs minutes, not the run.

A mirror looks at its folder again and again; each look ends with a copy that can be gone on from. What is gone from the folder goes from the
copy, too, after what is new has come.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tuneline.storage import COMMIT_MARKER, Storage, join


@dataclass(frozen=True)
class Committed:
    """A folder with a commit marker, and what the marker says belongs to it."""

    name: str
    """Relative to the mirrored folder."""
    marker: str
    """The marker's text."""
    needed: frozenset[str]
    spare: frozenset[str]
    """Files that may be deleted later: the folder stays whole without them."""

    @classmethod
    def read(cls, name: str, marker: str) -> "Committed | None":
        """Nothing for a marker that was cut short."""
        try:
            entries = json.loads(marker)
            return cls(name, marker, frozenset(entries["files"]), frozenset(entries["state"]))
        except (ValueError, KeyError, TypeError):
            return None

    def path(self, name: str) -> str:
        """A file of the folder, as the mirror names it."""
        return f"{self.name}/{name}"


class CommittedFolders:
    """Mirrors the folders below one that have a commit marker, and nothing that is still being written. Markers come last, and leave first."""

    def __init__(self, folder: Path, uri: str, storage: Storage, scratch: Path) -> None:
        self.folder, self.uri, self.storage, self.scratch = folder, uri, storage, scratch
        self._copied: dict[str, str] = {}
        """Folder -> the marker that it has at the URI."""
        self._names: set[str] = set()
        """All files at the URI."""

    def fetch(self) -> None:
        """Bring here what an earlier attempt has left at the URI."""
        self._names = set(self.storage.list(self.uri)) if self.storage.exists(self.uri) else set()
        for marker in sorted(name for name in self._names if PurePosixPath(name).name == COMMIT_MARKER):
            committed = Committed.read(str(PurePosixPath(marker).parent), self.storage.read_text(join(self.uri, marker)))
            if committed is None or not self._names.issuperset(map(committed.path, committed.needed)):
                continue
            for name in sorted(self._names.intersection(map(committed.path, committed.needed | committed.spare))):
                self.storage.copy(join(self.uri, name), str(self.folder / name))
            (self.folder / marker).write_text(committed.marker, encoding="utf-8")
            self._copied[committed.name] = committed.marker

    def update(self) -> None:
        """Copy what is new, newest first: the newest alone is enough to go on from. Then delete what is gone."""
        here = list(self._committed())
        for committed in here:
            if self._copied.get(committed.name) != committed.marker:
                self._copy(committed)
        if here:  # an empty folder is one that the step has not begun to fill
            self._delete(self._names - {committed.path(name) for committed in here for name in (*committed.needed, *committed.spare, COMMIT_MARKER)})
        for committed in here:
            lost = {committed.path(name) for name in committed.spare if not (self.folder / committed.path(name)).exists()}
            if self._is_there(committed):  # else the whole folder is being deleted, and its marker is already gone
                self._delete(lost & self._names)

    def _committed(self) -> Iterator[Committed]:
        """Those of the folder, newest first."""
        for marker in sorted(self.folder.rglob(COMMIT_MARKER), key=_modified, reverse=True):
            committed = Committed.read(marker.parent.relative_to(self.folder).as_posix(), _text(marker))
            if committed:
                yield committed

    def _is_there(self, committed: Committed) -> bool:
        return _text(self.folder / committed.path(COMMIT_MARKER)) == committed.marker

    def _copy(self, committed: Committed) -> None:
        """Copy from second names of the files: the step may delete its own while they are on their way."""
        try:
            names = self._hold(committed)
            if not (committed.needed.issubset(names) and self._is_there(committed)):
                return
            marker = committed.path(COMMIT_MARKER)
            self._delete([marker] if marker in self._names else [])
            for name in names:
                self.storage.copy(str(self.scratch / name), join(self.uri, committed.path(name)))
                self._names.add(committed.path(name))
            self.storage.write_text(join(self.uri, marker), committed.marker)
            self._names.add(marker)
            self._copied[committed.name] = committed.marker
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _hold(self, committed: Committed) -> list[str]:
        """The files that are there, under their second names."""
        held = []
        for name in sorted(committed.needed | committed.spare):
            (self.scratch / name).parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.folder / committed.path(name), self.scratch / name)
            except FileNotFoundError:
                continue
            held.append(name)
        return held

    def _delete(self, names: Iterable[str]) -> None:
        for name in sorted(names, key=lambda name: (PurePosixPath(name).name != COMMIT_MARKER, name)):
            self.storage.remove(join(self.uri, name))
            self._names.discard(name)
            if PurePosixPath(name).name == COMMIT_MARKER:
                self._copied.pop(str(PurePosixPath(name).parent), None)


class GrowingFiles:
    """Mirrors all files of a folder, each as a whole whenever it has changed: event files, which are small."""

    def __init__(self, folder: Path, uri: str, storage: Storage) -> None:
        self.folder, self.uri, self.storage = folder, uri, storage
        self._copied: dict[str, tuple[int, int]] = {}
        """File -> its size and time when it was copied."""

    def update(self) -> None:
        """Copy what has changed."""
        here = {path.relative_to(self.folder).as_posix(): path.stat() for path in sorted(self.folder.rglob("*")) if path.is_file()}
        for name, facts in here.items():
            if self._copied.get(name) != (facts.st_size, facts.st_mtime_ns):
                self.storage.copy(str(self.folder / name), join(self.uri, name))
                self._copied[name] = (facts.st_size, facts.st_mtime_ns)
        for name in set(self.storage.list(self.uri)) - here.keys() if here else ():
            self.storage.remove(join(self.uri, name))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _modified(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
