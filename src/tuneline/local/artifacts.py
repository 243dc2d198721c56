"""Where an artifact lies on this machine, and a digest of its content."""

import hashlib
import os
from pathlib import Path

from tuneline.storage import GCS_FOLDER

_MOUNTS = {"gs://": "/gcs/", "s3://": "/s3/", "minio://": "/minio/", "file://": ""}


def artifact_path(uri: str) -> str:
    """The path of a URI, as KFP mounts it: `gs://b/x` is `/gcs/b/x`, or lies in the folder of buckets; a path stands for itself."""
    buckets = os.environ.get(GCS_FOLDER, "").rstrip("/")
    for scheme, mount in {**_MOUNTS, **({"gs://": f"{buckets}/"} if buckets else {})}.items():
        if uri.startswith(scheme):
            return mount + uri.removeprefix(scheme)
    return uri


class ContentDigests:
    """SHA-256 of files and folders by what is in them; read again only when size, time or inode of a file has changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[list[tuple[object, ...]], str]] = {}

    def of(self, uri: str) -> str | None:
        """The digest, or nothing when there is no such file or folder here."""
        path = Path(artifact_path(uri))
        if not path.exists():
            return None
        files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if not item.is_dir() or item.is_symlink())
        signature = [_signature(file) for file in files]
        known = self._known.get(path)
        if known is None or known[0] != signature:
            known = (signature, _digest(path, files))
            self._known[path] = known
        return known[1]


def _signature(file: Path) -> tuple[object, ...]:
    found = file.lstat()
    return (file, found.st_size, found.st_mtime_ns, found.st_ino)


def _digest(root: Path, files: list[Path]) -> str:
    digest = hashlib.sha256(b"file" if root.is_file() else b"folder")
    for file in files:
        if file.is_dir() or not file.exists():  # a link to a folder, or to nothing: the link itself is the content
            content = hashlib.sha256(str(file.readlink()).encode()).digest()
        else:
            with file.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
        digest.update(b"" if file == root else file.relative_to(root).as_posix().encode() + b"\0")
        digest.update(content)
    return digest.hexdigest()
