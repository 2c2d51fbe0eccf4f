"""The cells of a sweep under way: some at a time, each a run of its own, and gone on with where they were cut.

What a cell is to run is written down when it begins (`launch/recipe.yaml`), as it was checked: a recipe may be edited
meanwhile. One that has ended is not run again; where one fails the others go on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from align.cluster import local
from align.cluster.sweeps import Planned, SweepRun
from align.errors import RunError, Stopped
from align.runfolder.lock import LOCK, is_free
from align.system.files import replace_file
from align.system.terminal import say

RECIPE = "launch/recipe.yaml"  # of a cell
SAID = 12  # lines of a cell's last message


@dataclass
class Going:
    """A cell that runs."""

    name: str
    ranks: local.Ranks
    said: list[str] = field(default_factory=list)  # its last message


@dataclass
class Course:
    """The cells of a sweep under way."""

    how: SweepRun
    gpus: int  # of each cell
    waiting: list[Planned]
    places: dict[int, Going] = field(default_factory=dict)  # as many as cells at a time
    failed: dict[str, str] = field(default_factory=dict)  # cell -> what it said
    awaited: set[str] = field(default_factory=set)  # cells that somebody else runs
    stopped: bool = False

    def send(self, number: int) -> None:
        """Asks all to stop."""
        self.stopped = True
        for going in self.places.values():
            going.ranks.send(number)

    def step(self) -> bool:
        """Looks at those that run, and begins what may begin. False where nothing is left."""
        for place, going in list(self.places.items()):
            if (code := going.ranks.code()) is not None:
                del self.places[place]
                self._over(going, code)
        for place in range(self.how.jobs):
            if place not in self.places and not self.stopped and (one := self._next()):
                self._begin(one, place)
        return bool(self.places) or bool(self.waiting and not self.stopped)

    def _over(self, going: Going, code: int) -> None:
        if code == 0:
            say(f"==> {going.name}: has ended")
        elif not (self.stopped and code == Stopped.exit_code):
            self._fail(going.name, "\n".join(going.said[:SAID]) or f"ended with exit code {code}", f"exit code {code}")

    def _fail(self, name: str, said: str, how: str) -> None:
        self.failed[name] = said
        say(f"==> {name}: has failed ({how}); the others go on", file=sys.stderr)

    def _begin(self, one: Planned, place: int) -> None:
        say(f"==> {one.cell.name}")
        try:
            self.places[place] = self._begun(one, place)
        except OSError as error:  # a full disk, no process to be had: the cells that run are not left alone for it
            self._fail(one.cell.name, f"could not begin: {error}", "could not begin")

    def _next(self) -> Planned | None:
        """The first that nobody else runs: where a sweep was killed its cells take a moment to save and end."""
        for one in list(self.waiting):
            lock = one.folder.path / LOCK
            if lock.exists() and not is_free(lock):
                if one.cell.name not in self.awaited:
                    say(f"==> {one.cell.name}: another process runs it; its end is waited for")
                self.awaited.add(one.cell.name)
                continue
            self.waiting.remove(one)
            if not one.folder.ended:
                return one
            say(f"==> {one.cell.name}: has ended already")
        return None

    def _begun(self, one: Planned, place: int) -> Going:
        path = one.folder.path / RECIPE
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, one.recipe.to_yaml())
        said: list[str] = []
        how = self.how.of_cell("auto" if one.folder.used else "")
        ranks = local.begin([str(path)], how, self.gpus, share_of(self.how, self.gpus, place), _teller(one, said))
        return Going(one.cell.name, ranks, said)


def _teller(one: Planned, said: list[str]) -> Callable[[str], None]:
    def told(line: str) -> None:
        say(f"{one.cell.name}: {line}")
        if line.startswith("align"):  # a message for the user begins with who speaks
            said.clear()
            said.append(line)
        elif said:
            said.append(line)

    return told


def share_of(how: SweepRun, gpus: int, place: int) -> dict[str, str]:
    """Variables of a cell: its share of this machine's GPUs, or of the cores. `place`: the how-manieth at a time."""
    if gpus:
        known = os.environ.get("CUDA_VISIBLE_DEVICES")
        devices = known.split(",") if known else [str(i) for i in range(gpus * how.jobs)]
        return {"CUDA_VISIBLE_DEVICES": ",".join(devices[place * gpus : (place + 1) * gpus])}
    if how.jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return {}
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // how.jobs // (how.processes or 1)))}


def run(planned: Sequence[Planned], how: SweepRun, gpus: int) -> dict[str, str]:
    """Runs what has not ended; returns the cells that failed, with what they said. Stopped where it was asked to."""
    course = Course(how, gpus, list(planned))
    with local.heard() as hear:
        hear(course.send)
        while course.step():
            time.sleep(local.LOOK)
    if course.stopped:
        raise Stopped("the sweep was asked to stop; its cells have saved. The same command goes on with it")
    return course.failed


def ended_well(failed: Mapping[str, str], count: int) -> None:
    """RunError with the cells that failed, and what each has said last."""
    if failed:
        told = "\n".join(f"{name}: {text.removeprefix('align: ')}" for name, text in failed.items())
        raise RunError(f"{len(failed)} of {count} cells failed; the same command tries them again\n{told}")
