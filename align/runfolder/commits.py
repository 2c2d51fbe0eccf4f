"""Checkpoints that come to stand beside the training.

Writing the files needs the weights as they are, so the steps wait for that. What makes a checkpoint of them, the sums,
the flushing to the disk and the rename, needs the files alone, and takes as long again or longer: a thread does it
while the next steps are made. Until it has, the checkpoint before is the newest, for whoever looks and after a kill.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from align.system.terminal import say


@dataclass
class Commits:
    """One at a time; on the main process, for the others begin none."""

    _act: Callable[[], object] | None = None
    _thread: threading.Thread | None = None
    _failed: list[Exception] = field(default_factory=list)

    def begin(self, act: Callable[[], object]) -> None:
        """After the one before, whose failure is raised."""
        self.wait()
        self._act = act
        self._thread = threading.Thread(target=self._run, name="checkpoint")  # no daemon: Python waits for it
        self._thread.start()

    def _run(self) -> None:
        assert self._act is not None
        try:
            self._act()
        except Exception as error:
            self._failed.append(error)

    def join(self) -> None:
        """Until none is under way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wait(self) -> None:
        """Until the last one stands; raises why it does not."""
        self.join()
        if failure := self.failure():
            raise failure

    def failure(self) -> Exception | None:
        """Of one that has ended so, told once; nothing is waited for."""
        return self._failed.pop() if self._failed else None

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """However the block ends, nothing is under way afterwards: the run folder may become another process's."""
        try:
            yield
        finally:
            self.join()
            if failure := self.failure():  # the block has ended by another, which is raised
                say(f"warning: {failure}", file=sys.stderr)
