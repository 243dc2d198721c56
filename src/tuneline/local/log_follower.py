"""What tasks write to their logs while they run, line by line."""

from collections.abc import Iterator

from tuneline.local.run_folder import RunFolder


class LogFollower:
    """Remembers how far each log was read."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}

    def start(self, task: str) -> None:
        """Follow a task's log from here on; what earlier attempts wrote was shown in their time."""
        log = self._folder.log(task)
        self._read[task] = log.stat().st_size if log.exists() else 0

    def lines(self, task: str) -> Iterator[str]:
        """Whole lines that are new."""
        log = self._folder.log(task)
        if log.exists():
            with log.open("rb") as stream:
                stream.seek(self._read[task])
                whole, newline, _ = stream.read().rpartition(b"\n")
            self._read[task] += len(whole) + len(newline)
            yield from whole.decode("utf-8", errors="replace").splitlines()
