"""`align sweep`: a grid over keys of a recipe, looked at as a whole, run, and compared on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from align.cli.check_all import look_at_all
from align.cli.options import options_of
from align.cluster import course, sweeps
from align.cluster.grid import read_grid
from align.errors import UserError
from align.monitors.trackers import check_trackers
from align.recipe.load import Recipe, name_of
from align.recipe.sharding import mistakes
from align.recipe.text import find_recipe, read
from align.report.folder import Pipeline
from align.report.folder import read as read_runs
from align.report.measured.standings import lines
from align.report.page import write
from align.system.machine import unwritable
from align.system.terminal import say


def run(recipe: str, words: Sequence[str]) -> None:
    """All of it. Mistakes before the first cell begins; RunError where one has failed, when the others have ended."""
    how, overrides = options_of(words, sweeps.SweepRun)
    grid, gpus = read_grid(overrides), how.gpus(torch.cuda.device_count())
    path = find_recipe(recipe)
    folder = Path(how.out or f"runs/{name_of(read(path), path)}-sweep")
    if reason := unwritable(folder):
        raise UserError(f"--out {folder}: cannot be written: {reason}; choose another place")
    sweeps.refuse_foreign(folder, grid)
    planned = sweeps.plan(recipe, grid, folder, how.of_cell().ranks(gpus))
    sweeps.look(planned, lambda recipe: _look(recipe, how.sharding))
    count = f"{len(planned)} cells, {how.jobs} at a time; no mistakes found in any"
    if how.dry_run:
        for one in planned:
            say(f"{one.cell.name}: {one.state}: {' '.join(one.cell.words)}")
        say(f"{count}; they would run in {folder}")
        return
    with sweeps.taken(folder, recipe, grid):
        say(f"{count}; into {folder}")
        failed = course.run(planned, how, gpus)
        _compare(folder)
    course.ended_well(failed, len(planned))


def _look(recipe: Recipe, sharding: str) -> None:
    look_at_all(recipe, [*check_trackers(recipe.logging.report_to), *mistakes(recipe, sharding)], sharding)


def _compare(folder: Path) -> None:
    """The page, and its main table in words, where any cell has come so far that there is something to see."""
    try:
        found = read_runs(folder)
    except UserError:
        return
    if isinstance(found, Pipeline):
        for line in lines(found.stages):
            say(line)
    say(f"report: {write([folder])}")
