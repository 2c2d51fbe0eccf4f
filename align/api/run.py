"""A run as one looks at it from Python: numbers, samples, its model, its page, and how it differs from another."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from align.api.apart import apart
from align.api.tables import Table, table
from align.errors import UserError
from align.models.frozen import model_in
from align.models.save import head_in
from align.models.settings import ModelSection
from align.models.sources import resolve
from align.models.tokenizer import load_tokenizer
from align.recipe.types import names
from align.report.compare import comparable
from align.report.folder import read_run
from align.report.headline import compare as difference
from align.report.headline import paired
from align.report.measures import Measure
from align.report.page import write as write_report
from align.runfolder.folder import RunFolder
from align.runfolder.logs import Completion, read_log


@dataclass(frozen=True)
class Page:
    """A report. A notebook shows it where it is the last thing in a cell."""

    path: Path

    def _repr_html_(self) -> str:
        inside = html.escape(self.path.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{inside}" style="width: 100%; height: 40em; border: 0"></iframe>'


class Run:
    """A run folder. Everything is read when it is asked for, so a run that still trains can be looked at.

    `align.Run(folder)` opens one; UserError where there is no run. What each file in it holds stands in the README.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        if not RunFolder(self.folder).recipe.is_file():
            raise UserError(f"{folder}: not a run folder: has no recipe.yaml; name one that a training has written")

    def __repr__(self) -> str:
        return f"align.Run({str(self.folder)!r})  # {self._state()}"

    def _state(self) -> str:
        found = self.outcome
        if found is None:
            return f"not at its end: {max((row['step'] for row in self.lines('metrics')), default=0)} steps so far"
        early = ", ended early" if found["ended_early"] else ""
        return f"{found['step']} steps{early}; final/ holds step {found['final_step']}"

    @property
    def outcome(self) -> dict[str, Any] | None:
        """How it ended: step, num_steps, ended_early (then also ended_by), final_step (whose weights are kept); None
        before its end."""
        path = self.folder / "outcome.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    @property
    def metrics(self) -> Table:
        """A row for each optimiser step: `step`, `loss`, ...; held-out ones (`eval/loss`) where they were measured."""
        return table(self.lines("metrics"))

    @property
    def completions(self) -> Table:
        """What the policy wrote for a few held-out prompts: `step` (0 is before training), `prompt`, `text`, lengths in
        tokens, `stop_reason` and `rewards`."""
        return table(self.lines("completions"), names(Completion))

    @property
    def test(self) -> dict[str, Measure]:
        """Metrics on the test rows by name, with `value`, `stderr` and `n` (rows); `before/NAME` is the same before
        training. Empty where the recipe names no test rows, or the run is not at its end."""
        return read_run(self.folder).test

    def model(self) -> Any:
        """The trained model in eval mode, on the GPU where there is one: a transformers model; a peft model of a run
        with an adapter; a one-label classifier of a reward model. Of a run that is not at its end it is that of its
        newest good checkpoint, which is said aloud; UserError where there is none."""
        return self._loaded()[0]

    def tokenizer(self) -> Any:
        """The tokenizer that it was trained with, chat template included."""
        return self._loaded(weights=False)[1]

    def _loaded(self, *, weights: bool = True) -> tuple[Any, Any]:
        with apart():  # layers draw the weights that are then read
            folder = resolve(str(self.folder))
            head = head_in(folder)
            tokenizer = load_tokenizer(ModelSection(model_name_or_path=folder), head)
            if not weights:
                return None, tokenizer
            model = model_in(folder, tokenizer, head)
        return model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer

    def report(self) -> Page:
        """Its page, made anew: one HTML file that needs no network (`path`); a notebook shows it."""
        return Page(write_report([self.folder]))

    def compare(self, other: Run | str | Path) -> Table:
        """How this run's test metrics differ from those of another: `metric`, `this`, `other`, `difference` with its
        standard error, and whether they are `paired`: row by row, where both hold values of the same rows, else as two
        means that know nothing of each other. UserError where they have no metric in common."""
        second = other if isinstance(other, Run) else Run(other)
        ours, theirs = (run.test for run in comparable([read_run(self.folder), read_run(second.folder)]))
        shared = [name for name in ours if name in theirs and not name.startswith(("before/", "baselines/"))]
        if not shared:
            raise UserError(
                f"{self.folder} and {second.folder}: no test metric in common ({_told(ours)}; {_told(theirs)}); give "
                "both the same data.test"
            )
        return table(_row(name, ours[name], theirs[name]) for name in shared)

    def resume(
        self, *, rewards: Sequence[Any] | None = None, on_step: Callable[..., Any] | Any = None,
        allow: Sequence[str] = (), **sections: Mapping[str, Any],
    ) -> Run:  # fmt: skip
        """Goes on from the last good checkpoint to the end, as `align train FOLDER --resume` does.

        `rewards` that were given as objects are given again; others than before are refused. `sections` change keys,
        such as `training={"max_steps": 200}`; one that the numbers depend on must be in `allow`. Raises as
        `align.train`.
        """
        from align.api.train import resume

        return resume(self.folder, rewards, on_step, allow, sections)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl` or `completions.jsonl` as they stand there."""
        return list(read_log(self.folder / f"{name}.jsonl"))


def _row(name: str, ours: Measure, theirs: Measure) -> dict[str, Any]:
    gap = difference(ours, theirs)
    return {
        "metric": name, "this": ours.value, "other": theirs.value, "difference": gap.value, "stderr": gap.stderr,
        "paired": paired(ours, theirs), "n": gap.n,
    }  # fmt: skip


def _told(found: Mapping[str, Measure]) -> str:
    return ", ".join(found) or "none"
