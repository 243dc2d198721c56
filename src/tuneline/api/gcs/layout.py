"""Where things lie below the service's folder.

    <folder>/<bucket>/<object name>          what people and local tools read and write
    <folder>/.tuneline/records.sqlite        generations, types, hashes, custom metadata
    <folder>/.tuneline/parts/                content that is arriving
    <folder>/.tuneline/aside/<bucket>/       objects whose name cannot be a path, by generation

No bucket's name begins with a dot, so nothing of a user's is ever in `.tuneline`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from tuneline.api.gcs.records import ObjectRecord

HIDDEN = ".tuneline"
KEPT_SECONDS = 7 * 24 * 3600
"""How long an upload may rest between two requests: a week, as on Cloud Storage."""


@dataclass(frozen=True)
class Layout:
    """Paths below one folder."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> "Layout":
        """Make what is missing, and clear away uploads that nobody finished."""
        layout = cls(folder.resolve())
        for path in (layout.parts, layout.records.parent / "aside"):
            path.mkdir(parents=True, exist_ok=True)
        for part in layout.parts.iterdir():
            if part.stat().st_mtime < time.time() - KEPT_SECONDS:
                part.unlink(missing_ok=True)
        return layout

    @property
    def records(self) -> Path:
        return self.folder / HIDDEN / "records.sqlite"

    @property
    def parts(self) -> Path:
        return self.folder / HIDDEN / "parts"

    def aside(self, bucket: str) -> tuple[str, ...]:
        """The folder of a bucket's objects in the hidden tree, as parts below `folder`."""
        return (HIDDEN, "aside", bucket)

    def file_aside(self, record: ObjectRecord) -> Path:
        return self.folder.joinpath(*self.aside(record.bucket), str(record.generation))
