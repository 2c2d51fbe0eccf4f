"""One case of the fuzzer: its own random numbers, its folder, what it did, and what it found wrong."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.harm import Harm
from fuzz.lives import Alarm, Life, Place, live

TAIL = 1500  # characters of what a faulty life said


@dataclass
class Case:
    """`kind:number` under a seed draws the same case again."""

    kind: str
    number: int
    seed: int
    folder: Path
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)  # the commands, with how each ended

    def __post_init__(self) -> None:
        self.draw = random.Random(f"{self.seed} {self.kind} {self.number}")
        self.folder.mkdir(parents=True)

    @property
    def again(self) -> str:
        return f"make fuzz SEED={self.seed} CASE={self.kind}:{self.number}"

    def place(self, cache: str) -> Place:
        return Place(self.folder, self.folder / f"cache-{cache}")

    def live(self, words: list[str], place: Place, harm: Harm | None = None, alarm: Alarm | None = None) -> Life:
        """Any problem of the life's manners is a fault of the case."""
        life = live(words, place, harm, alarm)
        self.counts["lives"] += 1
        self.counts["kills"] += life.killed
        self.story.append(f"{life.command}: {life.code}")
        for problem in life.problems:
            self.fault(problem, life)
        return life

    def fault(self, what: str, life: Life | None = None) -> None:
        self.faults.append(what if life is None else f"{what}\n    of: {life.command}\n    said: {life.text[-TAIL:]}")
