"""Processes over one store and one API, scheduled one at a time from a seed, with a clock of their own; and all that can go wrong between them."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tuneline.errors import CapacityError, InfrastructureError, TunelineError, UserError
from tuneline.vertex.backoff import Clock
from tuneline.vertex.rest import OutcomeUnknown

RUNNERS = 8
ATTEMPTS = 60
"""More than any runner needs."""
Attempt = Callable[[], str]


class Crash(BaseException):
    """The process is dead: whatever it tries from now on is not done."""


@dataclass
class Process:
    """A thread that runs only when the schedule says so."""

    name: str
    wakes_at: float
    dies_at: str
    """The point at which it dies, when it comes there; empty for one that lives."""
    is_dead: bool = False
    has_ended: bool = False
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


class Schedule:
    """Who runs next is drawn from a seed. Time passes a little with every step, and in leaps when all wait."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.draw = random.Random(seed)
        self.now = 0.0
        self.events: Counter[str] = Counter()
        self._processes: list[Process] = []
        self._error: BaseException | None = None
        self._back = threading.Semaphore(0)
        self._own = threading.local()

    def start(self, name: str, work: Callable[[], None], *, delay: float = 0.0, dies_at: str = "") -> None:
        """Add a process. One that dies ends; `work` starts another one, if it likes."""
        process = Process(name, self.now + delay, dies_at)

        def run() -> None:
            self._own.process = process
            process.turn.acquire()
            try:
                work()
            except Crash:
                pass
            except BaseException as error:
                self._error = error
            finally:
                process.has_ended = True
                self._back.release()

        self._processes.append(process)
        threading.Thread(target=run, name=name, daemon=True).start()

    def run(self) -> None:
        """Until all have ended. What one of them lets through is raised."""
        while waiting := [process for process in self._processes if not process.has_ended]:
            ready = [process for process in waiting if process.wakes_at <= self.now]
            if not ready:
                self.now = min(process.wakes_at for process in waiting)
                continue
            self.now += self.draw.uniform(0, 0.5)
            self.draw.choice(ready).turn.release()
            assert self._back.acquire(timeout=30), "a process did not come back"
            if self._error:
                raise self._error

    def point(self, name: str) -> None:
        """Let others run. The process may die here."""
        process: Process = self._own.process
        if process.is_dead:
            raise Crash
        self._wait(process)
        if name == process.dies_at:
            process.is_dead = True
            self.events[f"crash {name}"] += 1
            raise Crash

    def sleep(self, seconds: float) -> None:
        process: Process = self._own.process
        if process.is_dead:
            raise Crash
        process.wakes_at = self.now + seconds
        self._wait(process)

    def chance(self, share: float, event: str) -> bool:
        """Whether something happens now; counted when it does."""
        happens = self.draw.random() < share
        self.events[event] += happens
        return happens

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, sleep=self.sleep)

    def _wait(self, process: Process) -> None:
        self._back.release()
        process.turn.acquire()


def run_all(schedule: Schedule, crash_points: Sequence[str], attempt: Attempt) -> list[str]:
    """Runners that try as an orchestrator does, again after a crash and after an error. The results of all."""
    results: list[str] = []

    def runner(number: int, crashes_left: int, tries_left: int) -> None:
        def again() -> None:
            assert tries_left > 0
            runner(number, max(0, crashes_left - 1), tries_left - 1)

        def work() -> None:
            try:
                results.append(attempt())
            except TunelineError:
                again()
            except Crash:
                again()
                raise

        # Half of the runners die at the point that is this case's, so that there are cases for every point.
        dies_at = crash_points[schedule.seed % len(crash_points)] if number % 2 else schedule.draw.choice(crash_points)
        schedule.start(f"runner {number}", work, delay=schedule.draw.uniform(0, 20), dies_at=dies_at if crashes_left else "")

    for number in range(RUNNERS):
        runner(number, schedule.draw.randint(number % 2, 2), ATTEMPTS)
    schedule.run()
    return results


class Store:
    """Objects with generations, as Cloud Storage has them."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.objects: dict[str, tuple[bytes, int]] = {}

    def read(self, uri: str) -> tuple[bytes, int] | None:
        self.schedule.point("before a claim is read")
        if self.schedule.chance(0.02, "store unavailable"):
            raise InfrastructureError("unavailable")
        return self.objects.get(uri)

    def write(self, uri: str, content: bytes, *, generation: int) -> int | None:
        stage = next(name for name in (b"FREE", b"INTENT", b"CALLED", b"DONE") if b'"' + name + b'"' in content).decode()
        self.schedule.point(f"before {stage} is written")
        if self.schedule.chance(0.02, "store unavailable"):
            raise InfrastructureError("unavailable")
        if self.objects.get(uri, (b"", 0))[1] != generation:
            return None
        self.objects[uri] = (content, generation + 1)
        self.schedule.point(f"after {stage} is written")
        if self.schedule.chance(0.02, "store answer lost"):
            raise InfrastructureError("reset after the write")
        return generation + 1


@dataclass
class Operation:
    """What a call has begun."""

    ends_at: float
    shows_at: float
    """When looking for the thing finds it; later than it is made."""
    fails: bool


class Api:
    """Makes a thing by a long-running operation. Unless it is `unique` it makes another one whenever it is asked.

    A call may take `oversleeps` seconds to get there, every other time.
    """

    SLOWEST_SECONDS = 20.0
    STALE_SECONDS = 15.0

    def __init__(self, schedule: Schedule, *, unique: bool = False, oversleeps: float = 0.0) -> None:
        self.schedule = schedule
        self.unique = unique
        self.oversleeps = oversleeps
        self.operations: list[Operation] = []

    def made(self) -> list[Operation]:
        return [operation for operation in self.operations if not operation.fails]

    def look_up(self) -> str:
        self.schedule.point("before a look-up")
        shown = [number for number, operation in enumerate(self.operations) if not operation.fails and operation.shows_at <= self.schedule.now]
        if self.made() and not shown:
            self.schedule.events["look-up too early"] += 1
        return f"thing {shown[0]}" if shown else ""

    def call(self) -> str:
        self.schedule.point("before the call")
        if self.oversleeps and self.schedule.chance(0.5, "overslept"):
            self.schedule.sleep(self.oversleeps)
        if self.schedule.chance(0.2, "call refused"):
            raise self.schedule.draw.choice([CapacityError("no machine"), UserError("no permission")])
        if self.schedule.chance(0.1, "call lost"):
            raise OutcomeUnknown("reset before the call")
        if self.unique and self.made():
            self.schedule.events["call refused: exists"] += 1
            raise OutcomeUnknown("exists already: made, or being made")
        ends_at = self.schedule.now + self.schedule.draw.uniform(0, self.SLOWEST_SECONDS)
        shows_at = ends_at + self.schedule.draw.uniform(0, self.STALE_SECONDS)
        self.operations.append(Operation(ends_at, shows_at, fails=self.schedule.chance(0.1, "operation failed")))
        self.schedule.point("after the call")
        if self.schedule.chance(0.2, "answer lost"):
            raise OutcomeUnknown("reset after the call")
        return str(len(self.operations) - 1)

    def finish(self, operation: str, beat: Callable[[], None]) -> str | TunelineError:
        state = self.operations[int(operation)]
        while state.ends_at > self.schedule.now:
            self.schedule.sleep(5)
            beat()
            if self.schedule.chance(0.15, "operation unreachable"):
                raise self.schedule.draw.choice([InfrastructureError("unavailable"), UserError("token expired")])
        return CapacityError("no machine in the end") if state.fails else f"thing {operation}"
