"""How a command ends that has asked for more than it got: what came is kept, and the exit code says what is lacking."""

from __future__ import annotations

from dataclasses import dataclass, field

from align.errors import Incomplete, RunError, Stopped

KEPT = "What came is kept; the same command asks for the rest alone"


@dataclass
class Ending:
    """What is lacking, in words such as `3 questions of http:judge`."""

    unasked: list[str] = field(default_factory=list)  # for want of a budget
    silent: list[str] = field(default_factory=list)  # names of those of whom nothing at all came
    failed: list[str] = field(default_factory=list)

    def tell(self, budget: str = "") -> None:
        """Raises Stopped, RunError or Incomplete, in that order; `budget` says which one is spent."""
        if self.unasked:
            raise Stopped(f"{budget}: {', '.join(self.unasked)} were not asked for. {KEPT}")
        if who := ", ".join(self.silent):
            raise RunError(f"{who}: nothing came back, for the reasons above; the same command asks again")
        if self.failed:
            raise Incomplete(f"without an answer: {', '.join(self.failed)}, for the reasons above. {KEPT}")
