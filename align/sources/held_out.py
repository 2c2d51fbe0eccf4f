"""Greedy completions of held-out prompts, and whose they are held against where rewards compare completions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from align.batches import BY_POLICY
from align.rollout.comparing import compared
from align.rollout.writer import Job, Prompt, Seconds, Trajectory, Writer

OWN, OTHER = 0, 1  # places among a prompt's completions


def greedy(
    writer: Writer, prompts: Sequence[Prompt], version: int, tick: Callable[[int], Any], who: str = BY_POLICY
) -> list[Trajectory]:
    """One completion of each prompt, the same on every rank."""
    mine, written = who == BY_POLICY, list[Trajectory]()
    places = (OWN if mine else OTHER,)
    jobs = [Job(prompt=prompt, places=places, greedy=True, auxiliary=not mine, writer=who) for prompt in prompts]
    for chunk in writer.chunks(jobs):
        written += writer.write(chunk, version, Seconds())
        tick(len(chunk))
    return written


@dataclass
class Rivals:
    """Those of a model that does not change, written once for each split: a game is won against somebody."""

    role: str
    written: dict[str, list[Trajectory]] = field(default_factory=dict)  # split -> theirs

    def judge(
        self, writer: Writer, split: str, prompts: Sequence[Prompt], mine: Sequence[Trajectory]
    ) -> list[Trajectory]:
        """`mine` with what rewards that compare say of each against the other of its prompt."""
        if split not in self.written:
            self.written[split] = greedy(writer, prompts, 0, lambda done: None, self.role)
        by_number = {p.number: p for p in prompts}
        return compared(writer, [*mine, *self.written[split]], by_number, list, Seconds())[: len(mine)]
