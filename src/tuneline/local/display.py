"""What a person sees while a run goes on, on standard error: bars in a terminal, lines elsewhere, or nothing."""

import sys
import time
from typing import Protocol, TextIO

from tuneline.local.run_record import TaskRecord, TaskState, seconds_between
from tuneline.progress import Progress

PROGRESS_LINE_SECONDS = 10.0
_WORDS = {
    TaskState.RUNNING: "running",
    TaskState.SUCCEEDED: "succeeded",
    TaskState.SKIPPED: "cached",
    TaskState.NOT_TRIGGERED: "not triggered",
    TaskState.FAILED: "FAILED",
    TaskState.CANCELLED: "stopped",
}


class Display(Protocol):
    """Told by the engine what happens."""

    def changed(self, task: TaskRecord) -> None: ...
    def progressed(self, task: str, progress: Progress) -> None: ...
    def say(self, line: str) -> None: ...
    def close(self) -> None: ...


class Silence:
    """Shows nothing."""

    def changed(self, task: TaskRecord) -> None:
        del task

    def progressed(self, task: str, progress: Progress) -> None:
        del task, progress

    def say(self, line: str) -> None:
        del line

    def close(self) -> None:
        """Nothing is open."""


class Pace:
    """How fast an activity goes, and what is left of it."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], tuple[float, int]] = {}

    def seconds_left(self, task: str, progress: Progress, moment: float) -> float | None:
        """An estimate by what was done since the first finished unit: that one also paid for loading and measuring the start."""
        key = (task, progress.activity)
        start, done = self._first.get(key, (moment, 0))
        if done == 0:
            self._first[key] = moment, progress.completed
        if done == 0 or not done < progress.completed <= progress.total:
            return None
        return (moment - start) / (progress.completed - done) * (progress.total - progress.completed)


class Lines:
    """One line for each change of a task, and for its progress one every ten seconds."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._pace = Pace()
        self._last: dict[str, float] = {}

    def changed(self, task: TaskRecord) -> None:
        self.say(f"{task.name:<20} {change(task)}")
        self._last[task.name] = time.monotonic()

    def progressed(self, task: str, progress: Progress) -> None:
        moment = time.monotonic()
        left = self._pace.seconds_left(task, progress, moment)
        if moment - self._last.get(task, moment) >= PROGRESS_LINE_SECONDS:
            self._last[task] = moment
            eta = f", {clock(left)} left" if left is not None else ""
            self.say(f"{task:<20} {progress.activity} {progress.completed}/{progress.total}{eta}{'  ' if progress.message else ''}{progress.message}")

    def say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is open."""


class Bars:
    """A bar for each running task; what has ended becomes a line above."""

    def __init__(self, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        self._pace = Pace()
        self._bars: dict[str, TaskID] = {}
        self._progress = RichProgress(
            TextColumn("{task.fields[name]:<20}"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.fields[message]}"),
            console=Console(file=stream),
            transient=True,
        )

    def changed(self, task: TaskRecord) -> None:
        self._progress.start()
        if task.state == TaskState.RUNNING:
            self._bars[task.name] = self._progress.add_task("", name=task.name, total=None, left="", message="")
            return
        if task.name in self._bars:
            self._progress.remove_task(self._bars.pop(task.name))
        self.say(f"{task.name:<20} {change(task)}")

    def progressed(self, task: str, progress: Progress) -> None:
        if task in self._bars:
            left = self._pace.seconds_left(task, progress, time.monotonic())
            self._progress.update(
                self._bars[task],
                description=progress.activity,
                completed=progress.completed,
                total=progress.total,
                left="" if left is None else f"{clock(left)} left",
                message=progress.message,
            )

    def say(self, line: str) -> None:
        self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        self._progress.stop()


def choose_display(*, quiet: bool, stream: TextIO | None = None) -> Display:
    """Bars in a terminal, lines elsewhere."""
    stream = stream or sys.stderr
    if quiet:
        return Silence()
    return Bars(stream) if stream.isatty() else Lines(stream)


def change(task: TaskRecord) -> str:
    """What has become of a task, in a few words."""
    if task.state == TaskState.SKIPPED:
        return f"cached: the same inputs as in {task.cached_from}"
    if task.state.is_final and task.start_time:
        return f"{_WORDS[task.state]} after {clock(seconds_between(task.start_time, task.end_time))}"
    return _WORDS.get(task.state, "waiting")


def clock(seconds: float) -> str:
    """`3.2 s`, `1:04` or `2:03:04`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
