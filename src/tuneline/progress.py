"""How a step tells the engine how far it is: a small JSON file, replaced as a whole, at the path in `TUNELINE_PROGRESS_FILE`."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """`completed` of `total` units of one activity, e.g. 12 of 100 training steps."""

    activity: str
    completed: int
    total: int
    message: str = ""
    """A few measured values for people, e.g. `loss=1.23`."""


class ProgressFile:
    """Writes progress where the engine asked for it; does nothing when it did not."""

    def __init__(self, path: Path | None) -> None:
        self.path = path

    @classmethod
    def from_environment(cls) -> "ProgressFile":
        path = os.environ.get("TUNELINE_PROGRESS_FILE")
        return cls(Path(path) if path else None)

    def report(self, progress: Progress) -> None:
        """Replace the file, so that a reader never sees half of it."""
        if self.path is not None:
            temporary = self.path.with_suffix(".tmp")
            temporary.write_text(json.dumps(asdict(progress)), encoding="utf-8")
            temporary.replace(self.path)


def read_progress(path: Path) -> Progress | None:
    """The last report, or nothing when there is none yet."""
    try:
        return Progress(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
