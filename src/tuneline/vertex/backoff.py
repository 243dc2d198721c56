"""How often and how long to wait before a call is made again. Waiting is the caller's: tests wait for nothing."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Clock:
    """Time as the code that waits sees it."""

    now: Callable[[], float] = time.monotonic
    """Seconds since any moment; never set back."""
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Doubling waits with full jitter, so that clients that failed together do not come back together."""

    first_seconds: float = 1.0
    longest_seconds: float = 32.0
    attempts: int = 7
    """Calls in all: with the defaults about a minute."""

    def waits(self) -> Iterator[float]:
        """The seconds before each call but the first."""
        for number in range(self.attempts - 1):
            yield random.uniform(0, min(self.longest_seconds, self.first_seconds * 2**number))  # noqa: S311 (spreads load, hides nothing)
