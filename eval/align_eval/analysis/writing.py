"""Results of an evaluation's folder on the disk, with all that they were made from: `results.json` and its tables."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from align import __version__
from align.system.terminal import visible
from align_eval.results.document import Failure, Results, Sections
from align_eval.results.families import FAMILIES
from align_eval.results.reading import add, read
from align_eval.statistics.resampling import Resampling
from align_eval.store.judges import read_judges

Told = tuple[list[str], list[Failure]]  # warnings, and what is missing
PARTS = ("items.jsonl", "answers/*.jsonl", "verdicts/*.jsonl", "scores/*.jsonl")


def put(
    folder: Path, sections: Sections, models: Iterable[str], how: Resampling, told: Told
) -> Path:
    """Adds them to the folder's results; `told` are the warnings and what is missing."""
    inputs = {str(p.relative_to(folder)): _sum(p) for part in PARTS for p in sorted(folder.glob(part))}
    about = manifest(inputs, how)
    if judges := {name: one["identity"] for name, one in read_judges(folder).items()}:
        about["judges"] = judges
    return add(folder, _results(folder, sections, models, about, told))


def told_written(path: Path, sections: Sections) -> str:
    """Where results are; and how p-values there differ from those of this command alone."""
    kept, more = read(path).sections, []
    for name in FAMILIES:
        size, own = (max((row.family for row in getattr(of, name) if not row.category), default=0)
                     for of in (kept, sections))  # fmt: skip
        more += [f"{size} {name}"] if own and size > own else []
    return f"written: {path}" + (f"; p-values there are adjusted over its {' and '.join(more)}" if more else "")


def put_runs(folder: Path, sections: Sections, runs: Sequence[Path], how: Resampling, warnings: list[str]) -> Path:
    """The same of run folders, into a folder of its own."""
    inputs = {f"{run.name}/metrics.jsonl": _sum(run / "metrics.jsonl") for run in runs}
    folder.mkdir(parents=True, exist_ok=True)
    return add(folder, _results(folder, sections, [], manifest(inputs, how), (warnings, [])))


def manifest(inputs: dict[str, str], how: Resampling) -> dict[str, Any]:
    return {
        "version": __version__, "seed": how.seed, "resamples": how.num, "level": how.level, "inputs": inputs,
    }  # fmt: skip


def _results(
    folder: Path, sections: Sections, models: Iterable[str], about: dict[str, Any], told: Told
) -> Results:
    return Results(
        title=folder.resolve().name, command=visible(" ".join(["align-eval", *sys.argv[1:]])), manifest=about,
        models=[{"name": name} for name in models], warnings=told[0], failures=told[1], sections=sections,
    )  # fmt: skip


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
