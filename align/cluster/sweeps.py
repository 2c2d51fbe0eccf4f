"""A grid as runs, each in a folder of its name: all of them looked at before the first begins. `course` runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from align.cluster import local
from align.cluster.grid import Cell, Grid
from align.errors import Findings, Mistakes, UserError
from align.recipe.load import Recipe, completed, load_recipe
from align.recipe.text import read
from align.report.folder import GUARD, SWEEP, read_sweep
from align.runfolder.folder import RunFolder, fixed
from align.runfolder.lock import Lock, Words
from align.system.files import replace_file
from align.system.machine import unwritable
from align.system.yaml12 import to_yaml

HOLDS = Words("another sweep", "another --out")
SHOWN = 3  # cells, or differences, that a message lists


@dataclass(frozen=True, kw_only=True)
class SweepRun:
    """How a sweep is run: the options of `align sweep`."""

    out: str = ""  # the folder; default: runs/NAME-sweep
    jobs: int = 1  # cells at a time
    processes: int = 0  # ranks of each; 0: one for each of its GPUs
    sharding: local.Sharding = "ddp"
    offload: str = ""  # as of `align launch local`
    dry_run: bool = False

    def __post_init__(self):
        if self.jobs < 1:
            raise Mistakes([f"--jobs: {self.jobs} must be at least 1"])
        self.of_cell()

    def of_cell(self, resume: str = "") -> local.LocalRun:
        return local.LocalRun(
            processes=self.processes, sharding=self.sharding, offload=self.offload, resume=resume
        )

    def gpus(self, here: int) -> int:
        """Of each cell. UserError where there are fewer than cells at a time."""
        if here and self.jobs > here:
            raise UserError(f"--jobs: {self.jobs} cells at a time, and there are {here} GPUs; each needs one")
        return here // self.jobs


@dataclass(frozen=True)
class Planned:
    """A cell as it will run."""

    cell: Cell
    recipe: Recipe

    @property
    def folder(self) -> RunFolder:
        return RunFolder(self.recipe.output_dir)

    @property
    def state(self) -> str:
        if self.folder.ended:
            return "has ended"
        return "goes on" if self.folder.used else "new"


# ---- before the first cell ------------------------------------------------------------------------------------------


def plan(recipe: str, grid: Grid, folder: Path, ranks: int) -> list[Planned]:
    """Every cell's recipe, checked. Mistakes with all that is wrong with any of them; nothing is written."""
    found, of_cell = list[Planned](), dict[str, Findings]()
    for cell in grid.cells():
        of_cell[cell.name] = Findings()
        with of_cell[cell.name]:
            words = [*grid.fixed, *cell.words, f"training.output_dir={folder / cell.name}"]
            planned = Planned(cell, load_recipe(recipe, words, world_size=ranks))
            _refuse_other(planned)
            found.append(planned)
    tell(of_cell)
    _refuse_twins(found)
    return found


def look(planned: Sequence[Planned], at: Callable[[Recipe], object]) -> None:
    """Has each cell that is still to run looked at. Mistakes with all that is found."""
    of_cell = {one.cell.name: Findings() for one in planned}
    for one in planned:
        with of_cell[one.cell.name]:
            if not one.folder.ended:
                at(one.recipe)
    tell(of_cell)


def tell(of_cell: Mapping[str, Findings]) -> None:
    """Mistakes: each once; what is not wrong with all cells has the names of those in front."""
    where: dict[str, list[str]] = {}
    for name, findings in of_cell.items():
        for message in dict.fromkeys(findings.messages):
            where.setdefault(message, []).append(name)
    if where:
        everywhere = len(of_cell)
        raise Mistakes(text if len(names) == everywhere else f"{_some(names)}: {text}" for text, names in where.items())


def _refuse_other(planned: Planned) -> None:
    """UserError where the cell's folder cannot be written, or holds a run of another recipe, to be shown as of this."""
    folder = planned.folder
    if reason := unwritable(folder.path):
        raise UserError(f"its folder cannot be written: {reason}; choose another --out, or move what is there")
    if not folder.recipe.exists():
        return
    saved, now = read(folder.recipe).values, planned.recipe.to_dict()
    if isinstance(saved.get("training"), dict) and isinstance(saved.get("method"), dict):
        saved = completed(saved, type(planned.recipe.method))
    old, new = fixed({"recipe": saved}), fixed({"recipe": now})
    other = [f"{key}: {_shown(old, key)} there, {_shown(new, key)} now" for key in sorted({*old, *new})
             if old.get(key) != new.get(key)]  # fmt: skip
    if other:
        more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        raise UserError(
            f"holds a run of another recipe ({'; '.join(other[:SHOWN])}{more}); choose another --out, or put it back"
        )


def _shown(values: Mapping[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "none"


def _refuse_twins(planned: Sequence[Planned]) -> None:
    """Mistakes where two cells are the same run by other words, such as 0.1 and 0.10."""
    seen: dict[str, str] = {}
    wrong: list[str] = []
    for one in planned:
        what = repr(sorted(fixed({"recipe": one.recipe.to_dict()}).items()))
        if what in seen:
            wrong.append(f"{seen[what]} and {one.cell.name} would be the same run; keep one of them")
        seen.setdefault(what, one.cell.name)
    if wrong:
        raise Mistakes(wrong)


def _some(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return "; ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


# ---- the folder -----------------------------------------------------------------------------------------------------


@contextmanager
def taken(folder: Path, recipe: str, grid: Grid) -> Iterator[None]:
    """The sweep's folder, for this process alone, with what was asked for written into it. UserError."""
    refuse_foreign(folder, grid)
    folder.mkdir(parents=True, exist_ok=True)
    guard = Lock(folder / GUARD, HOLDS)
    guard.take()
    try:
        asked = {
            "recipe": recipe, "values": {key: list(texts) for key, texts in grid.values.items()},
            "overrides": list(grid.fixed), "cells": [cell.name for cell in grid.cells()],
        }  # fmt: skip
        replace_file(folder / SWEEP, to_yaml(asked))
        yield
    finally:
        guard.release()


def refuse_foreign(folder: Path, grid: Grid) -> None:
    """UserError where the folder holds something else than this sweep, or another one."""
    if not folder.exists():
        return
    if not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir()):
        try:
            asked = read_sweep(folder)
        except (OSError, ValueError, yaml.YAMLError):
            raise UserError(f"--out {folder}: holds something, and no sweep; choose a folder of its own") from None
        if set(keys := asked["values"]) != set(grid.values):
            raise UserError(f"--out {folder}: holds a sweep over {', '.join(keys)}; choose another folder")
