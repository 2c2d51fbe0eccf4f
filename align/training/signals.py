"""Asked to stop: SIGTERM (a scheduler) and SIGINT (Ctrl-C) set a flag, and the loop ends after its step."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

AGAIN = 2.0  # seconds within which a second SIGINT is the launcher passing on what the terminal sent to all


class StopRequest:
    """`with StopRequest() as stop:`, then `stop.asked` after every step; that all ranks agree is the caller's matter.

    A second SIGINT, later than `AGAIN`, raises KeyboardInterrupt at once: then only the last checkpoint is kept. The
    handlers of before come back at the end. Outside the main thread no handler can be set; `ask` works everywhere.
    """

    def __init__(self) -> None:
        self.asked = False
        self.by = ""  # the signal's name
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def ask(self, by: str = "request") -> None:
        if not self.asked:
            self.asked, self.by, self._since = True, by, time.monotonic()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set outside of Python

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.asked:
            self.ask(signal.Signals(number).name)
            _tell(f"{self.by}: stopping after this step, state will be saved")
        elif number == signal.SIGINT and time.monotonic() - self._since > AGAIN:
            _tell("SIGINT again: stopping now; state is only kept up to the last checkpoint")
            raise KeyboardInterrupt


def _tell(text: str) -> None:
    os.write(2, f"\n{text}\n".encode())  # print() may not be entered twice, and a handler interrupts anything
