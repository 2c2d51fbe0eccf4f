"""Asked to stop, by SIGTERM (a scheduler), SIGINT (Ctrl-C) or SIGHUP (a terminal that has gone): at once, or within the
loop after its step.

Outside of the loop everything that is under way is made again by a resume, as after a kill, so nothing is waited for.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from align.errors import AlignError, RunError, Stopped

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
AGAIN = 2.0  # seconds within which a second SIGINT is the launcher passing on what the terminal sent to all


class Asked(BaseException):
    """Raised by the signal's handler, wherever the process is; no `except Exception` of a library holds it up."""

    exit_code = Stopped.exit_code


class StopRequest:
    """`with StopRequest() as stop:`, then `stop.asked` after every step; that all ranks agree is the caller's matter.

    With `at_once` a signal raises Asked, but for the time that is spent in `stop.patiently()`.
    A second SIGINT, later than `AGAIN`, raises KeyboardInterrupt at once: then only the last checkpoint is kept. The
    handlers of before come back at the end. Outside the main thread no handler can be set; `ask` works everywhere.
    """

    def __init__(self, *, at_once: bool = False) -> None:
        self.asked = False
        self._at_once = at_once
        self.by = ""  # the signal's name
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def ask(self, by: str = "request") -> None:
        if not self.asked:
            self.asked, self.by, self._since = True, by, time.monotonic()

    @contextmanager
    def patiently(self) -> Iterator[StopRequest]:
        """Within it a signal sets the flag alone."""
        before, self._at_once = self._at_once, False
        try:
            yield self
        finally:
            self._at_once = before
        if self._at_once and self.asked:  # when the last step had been made
            raise Asked(f"asked to stop by {self.by}")

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has it
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside of Python

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.ask(signal.Signals(number).name)
            if self._at_once:
                raise Asked(f"asked to stop by {self.by}")
            _tell(f"{self.by}: stopping after this step, state will be saved")
        elif number == signal.SIGINT and time.monotonic() - self._since > AGAIN:
            _tell("SIGINT again: stopping now; state is only kept up to the last checkpoint")
            raise KeyboardInterrupt


@contextmanager
def stoppable(stop: StopRequest | None = None) -> Iterator[StopRequest]:
    """A whole run, from its first import to its report. Raises Stopped where it was asked to stop outside of its loop,
    also when that shows as the failure of something else: of a process that has stopped sooner than this one.

    With `stop` it is part of such a block, which answers for it.
    """
    if stop is not None:
        yield stop
        return
    with StopRequest(at_once=True) as stop:
        try:
            yield stop
        except (Asked, Exception) as error:
            if not stop.asked or isinstance(error, AlignError):
                raise
            raise Stopped(f"stopped by {stop.by}; go on with --resume") from error
        except KeyboardInterrupt as error:
            if stop.asked:
                raise
            raise RunError("a KeyboardInterrupt was raised by code and not by the keyboard; see --debug") from error


def _tell(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody reads it any more
        os.write(2, f"\n{text}\n".encode())  # print() may not be entered twice, and a handler interrupts anything
