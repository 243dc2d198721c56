"""Files below one folder, reached step by step from an open folder, so that no link and no `..` leads out of it."""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tuneline.api.gcs.names import is_object_name, is_path_part

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def opened(root: Path, parts: Sequence[str], *, create: bool = False) -> Iterator[int | None]:
    """The descriptor of a folder below `root`; None where there is none, or where a link or a file stands in its way."""
    folder: int | None = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts:
            if folder is not None:
                here, folder = folder, None  # the step closes it, whatever happens
                folder = _step(here, part, create=create)
        yield folder
    finally:
        if folder is not None:
            os.close(folder)


@contextmanager
def required(root: Path, parts: Sequence[str], *, create: bool = False) -> Iterator[int]:
    """The same for a folder that must be there."""
    with opened(root, parts, create=create) as folder:
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "no such folder", "/".join(parts))
        yield folder


def _step(folder: int, part: str, *, create: bool) -> int | None:
    """Into a folder; the one that it starts from is closed."""
    try:
        if create:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=folder)
                os.fsync(folder)
        return os.open(part, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise  # a folder that cannot be opened is no missing one
    finally:
        os.close(folder)


def file_facts(folder: int, name: str) -> os.stat_result | None:
    """Of a regular file; None for nothing, and for folders, links and devices."""
    try:
        facts = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def is_free(folder: int, name: str) -> bool:
    """Whether a file may be put here: there is nothing, or a regular file that it replaces."""
    try:
        return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return True


def open_file(folder: int, name: str) -> int:
    """A regular file for reading. The flag NONBLOCK is for a pipe that took its place."""
    return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)


def prune(root: Path, parts: Sequence[str], keep: int) -> None:
    """Remove the folder at `parts` and those above it, from the bottom, as long as they are empty; the first `keep` parts stay."""
    for depth in range(len(parts), keep, -1):
        with opened(root, parts[: depth - 1]) as folder:
            if folder is None:
                return
            try:
                os.rmdir(parts[depth - 1], dir_fd=folder)
            except OSError:  # not empty, or somebody else's
                return


def remove_folders(root: Path, top: str) -> bool:
    """Remove a folder that holds nothing but folders; whether that is so."""
    with required(root, ()) as folder:
        try:
            for _, names, _, inner in os.fwalk(top, topdown=False, dir_fd=folder):
                for name in names:
                    os.rmdir(name, dir_fd=inner)
            os.rmdir(top, dir_fd=folder)
        except OSError:  # not empty, or a link
            return False
    return True


class Walk:
    """The names of all files below a folder of `root`, in the order of their UTF-8 bytes.

    `floor` may be raised on the way: names before it are no longer looked for.
    """

    def __init__(self, root: Path, top: str, *, prefix: str = "", floor: str = "") -> None:
        self._root, self._top, self._prefix = root, top, prefix
        self.floor = floor

    def __iter__(self) -> Iterator[str]:
        pending = [self._names("")]
        while pending:
            name = next(pending[-1], None)
            if name is None:
                pending.pop()
            elif name.endswith("/"):
                if self._may_hold(name):
                    pending.append(self._names(name))
            elif name >= self.floor and name.startswith(self._prefix) and is_object_name(name):
                yield name

    def _may_hold(self, folder: str) -> bool:
        """Whether a name in the folder can be asked for."""
        in_prefix = folder.startswith(self._prefix) or self._prefix.startswith(folder)
        return in_prefix and (folder > self.floor or self.floor.startswith(folder)) and is_object_name(folder)

    def _names(self, base: str) -> Iterator[str]:
        """One folder's entries, folders with a `/` at the end, so that `a/b` comes after `a.txt`. It is closed before its folders are opened."""
        with opened(self._root, (self._top, *base.split("/")[:-1])) as folder:
            names = [] if folder is None else list(_entries(folder))
        return iter(sorted(base + name for name in names))


def _entries(folder: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_path_part(entry.name):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield f"{entry.name}/"
            elif entry.is_file(follow_symlinks=False):
                yield entry.name
