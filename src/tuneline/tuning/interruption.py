"""SIGTERM and Ctrl-C while training: taken as a wish, and obeyed where the state is whole."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tuneline.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """While entered, the two signals only leave a note; whoever works asks `raise_if_requested` at places where it can stop.

    An exception out of a signal handler could hit between the update of one weight and the next. Outside the main thread Python
    delivers no signals, and this does nothing.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.requested = number

    def raise_if_requested(self) -> None:
        """Raise what belongs to the signal that came, if one did."""
        if self.requested is not None:
            raise interruption(self.requested)


def interruption(number: int, where: str = "") -> BaseException:
    """Interrupted for SIGTERM, KeyboardInterrupt for Ctrl-C."""
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    return Interrupted(f"Stopped by SIGTERM{where}; the training state is saved.", next_action="Go on with: tuneline run --resume RUN")
