"""What is written of an experience's prompts beside their first completions, or instead of all at once.

`jobs_of` answers a method's `resample`; `Slots` keeps completions that are written a window at a time.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.batches import Ask
from align.rollout.writer import Hints, Job, Prompt, Trajectory, from_line, line


def jobs_of(
    asks: Sequence[Ask], judged: Sequence[Trajectory], taken: Mapping[int, int], prompts: Mapping[int, Prompt],
    hints: Hints | None,
) -> list[Job]:  # fmt: skip
    """`taken`: how many completions each prompt has already."""
    taken, jobs = dict(taken), list[Job]()
    for ask in asks:
        begun = judged[ask.row]
        prompt = prompts[begun.number]
        if ask.hint:
            assert hints is not None, "a hint is asked for that nobody can tell"
            prompt = hints.told(prompt, ask.hint)
        places = tuple(range(taken[begun.number], taken[begun.number] + ask.count))
        taken[begun.number] += ask.count
        jobs.append(
            Job(
                prompt=prompt, places=places, greedy=ask.greedy, auxiliary=True, learned=ask.learned, hint=ask.hint,
                begun=begun, given=ask.given, writer=ask.writer,
            )
        )  # fmt: skip
    return jobs


@dataclass
class Slots:
    """Completions under way, always as many: one that has ended makes room for the next of the stream.

    The stream is that of the prompts, each as many times as it is to be completed.
    """

    size: int
    num_generations: int
    window: int  # new tokens of a completion in one experience
    live: list[Trajectory | None] = field(default_factory=list)
    num_begun: int = 0

    @property
    def num_prompts(self) -> int:
        """Prompts whose turn has come."""
        return -(-self.num_begun // self.num_generations)

    def jobs(self, prompts: Callable[[int, int], Sequence[Prompt]]) -> list[Job]:
        """What is to be written now, slot by slot."""
        live = self.live or [None] * self.size
        fresh = iter(range(self.num_begun, self.num_begun + live.count(None)))
        wanted = [(t, *((t.number, t.place) if t else divmod(next(fresh), self.num_generations))) for t in live]
        jobs: list[Job] = []
        for (begun, number), some in itertools.groupby(wanted, key=lambda w: (w[0], w[1])):
            places = tuple(place for _, _, place in some)
            (prompt,) = prompts(number, number + 1)
            given = len(begun.tokens) if begun else 0
            jobs.append(Job(prompt=prompt, places=places, begun=begun, given=given, window=self.window))
        return jobs

    def take(self, written: Sequence[Trajectory]) -> None:
        """What was written of `jobs`, in their order."""
        self.num_begun += (self.live or [None] * self.size).count(None)
        self.live = [None if t.done else t for t in written]

    def state(self, number: int) -> dict[str, Any]:
        live = [None if t is None else line(t, number) for t in self.live]
        return {"live": live, "num_begun": self.num_begun}

    def restored(self, state: Mapping[str, Any]) -> Slots:
        live = [None if row is None else from_line(row) for row in state["live"]]
        return dataclasses.replace(self, live=live, num_begun=state["num_begun"])
