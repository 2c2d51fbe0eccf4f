"""The next experience, begun before this one is learned from: beside the training where another machine writes it."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from align.rollout.writer import Seconds


class Ahead:
    """`write(seconds)` is done at once, or in a thread of its own; what it raises is raised by `join`."""

    def __init__(self, write: Callable[[Seconds], object], *, beside: bool):
        self.seconds = Seconds()
        self._write = write
        self._error: Exception | None = None
        self._thread = Thread(target=self._run, name="ahead", daemon=True) if beside else None
        if self._thread is not None:
            self._thread.start()
        else:
            write(self.seconds)

    def wait(self) -> None:
        """Until nothing more is written."""
        if self._thread is not None:
            self._thread.join()

    def join(self) -> Seconds:
        """Where its time went."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self.seconds

    def _run(self) -> None:
        try:
            self._write(self.seconds)
        except Exception as error:  # whatever it is, the run must hear of it
            self._error = error
