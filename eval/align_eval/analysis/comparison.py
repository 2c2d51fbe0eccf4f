"""Two models of an evaluation, or two runs, side by side on the same prompts: everything that can be said of both.

`after` is set against `before`: rows have a = after, b = before; a difference is after less before, a win rate is
that of after. `quantities` are the numbers that a gate may name, each with its values for single prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.analysis import pairs as pairing
from align_eval.analysis import scores as scoring
from align_eval.analysis.evaluation import Evaluation, Source, evaluation_of
from align_eval.analysis.games import by_pair, flagged, missing_verdicts, one_order, record
from align_eval.analysis.judges import agreements, judge_rows
from align_eval.analysis.missing import missing_scores
from align_eval.analysis.pairs import PairSettings
from align_eval.results.document import Agreement, Difference, Failure, JudgeRow, Pair, Scored, Sections
from align_eval.results.families import adjusted
from align_eval.statistics.estimate import Estimate

SETTINGS = PairSettings()


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number that a gate may name. Its interval may be asked for at another level by comparing anew."""

    estimate: Estimate
    values: np.ndarray | None = None  # one for each prompt, of which the estimate is the mean
    bounds: tuple[float, float] | None = None  # between which every value must lie; None: not known


@dataclass(frozen=True, kw_only=True)
class Comparison:
    before: str
    after: str
    pairs: list[Pair] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)  # of both
    judges: list[JudgeRow] = field(default_factory=list)
    agreement: list[Agreement] = field(default_factory=list)  # between judges
    quantities: dict[str, Quantity] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def delta(self) -> Estimate:
        """The one number: share of prompts won less share lost, or the only difference of scores. UserError where
        there are several."""
        if "delta" not in self.quantities:
            raise UserError(f"there is more than one difference; name it: {', '.join(self.quantities)}")
        return self.quantities["delta"].estimate

    def sections(self) -> Sections:
        return Sections(
            pairs=self.pairs, differences=self.differences, scores=self.scores, judges=self.judges,
            agreement=self.agreement,
        )  # fmt: skip

    @property
    def models(self) -> list[str]:
        return [self.before, self.after]


def compare(
    before: str | Path, after: str | Path, evaluation: Source | None = None, *, judge: str = "",
    settings: PairSettings = SETTINGS,
) -> Comparison:  # fmt: skip
    """Two models of an evaluation by name; without one, the test metrics of two run folders.

    UserError: no such folder, model or judge; a model against itself; nothing that both have.
    """
    if evaluation is None:
        from align_eval.analysis.runs import compare_tests

        return compare_tests(Path(before), Path(after), settings.how)
    source = evaluation_of(evaluation).only(judge)
    old, new = source.model(str(before)), source.model(str(after))
    if old == new:
        raise UserError(f"{old}: compared with itself; name two models")
    said = by_pair(source.pairwise).get(frozenset((old, new)), [])
    rows, warnings = _pairs(source, said, new, old, settings)
    differences, told = scoring.differences(source, new, old, settings.how)
    if not rows and not differences:
        raise UserError(
            f"{source.name}: has neither verdicts on {old} against {new} nor scores of both; make them with "
            "align-eval judge, run or reward"
        )
    found = {**_of_pairs(rows, said, settings), **_of_scores(source, differences)}
    return Comparison(
        before=old, after=new, pairs=adjusted(rows), differences=adjusted(differences),
        scores=scoring.scored(source, settings.how, [old, new]), judges=judge_rows(_on(source, said), settings.how),
        agreement=agreements(_on(source, said), settings.how),
        quantities=_with_delta(found, [row.judge for row in rows if not row.category], differences),
        warnings=[
            *source.warnings, *_coverage(source, said, old, new), *one_order(said), *flagged(said), *warnings,
            *told,
        ],
        failures=[
            *missing_verdicts(said),
            *(f for f in [*source.unmade, *missing_scores(source)] if f.model in (old, new)),
        ],
    )  # fmt: skip


def _on(source: Evaluation, verdicts: Sequence[Verdict]) -> Evaluation:
    return replace(source, verdicts=verdicts)


def _pairs(
    source: Evaluation, said: Sequence[Verdict], a: str, b: str, settings: PairSettings
) -> tuple[list[Pair], list[str]]:
    """Of each judge."""
    rows: list[Pair] = []
    warnings: list[str] = []
    for judge in dict.fromkeys(v.judge for v in said):
        found, told = pairing.pairs(source, [v for v in said if v.judge == judge], a, b, settings)
        rows, warnings = [*rows, *found], [*warnings, *told]
    return rows, warnings


def _coverage(source: Evaluation, said: Sequence[Verdict], old: str, new: str) -> Iterator[str]:
    """Answers of one model alone, and pairs of answers that nobody judged."""
    ours, theirs = (set(source.lengths.get(name, {})) for name in (new, old))
    if not ours and not theirs:
        return
    if alone := len(ours ^ theirs):
        yield f"{alone} items have an answer of one of {old} and {new}; {len(ours & theirs)} have both"
    for judge in dict.fromkeys(v.judge for v in said):
        if unjudged := len((ours & theirs) - {v.item for v in said if v.judge == judge}):
            yield f"judge {judge}: {unjudged} items with both answers have no verdict; they are in no number here"


def _of_pairs(rows: Sequence[Pair], said: Sequence[Verdict], settings: PairSettings) -> dict[str, Quantity]:
    """`win_rate`, `lc_win_rate` and `delta`, each followed by [JUDGE] where several judged."""
    whole = [row for row in rows if not row.category]
    found: dict[str, Quantity] = {}
    for row in whole:
        mark = f"[{row.judge}]" if len(whole) > 1 else ""
        values = record([v for v in said if v.judge == row.judge], row.a, row.b, settings.strong).values
        found[f"delta{mark}"] = Quantity(estimate=net(row.win_rate), values=2 * values - 1, bounds=(-1.0, 1.0))
        found[f"win_rate{mark}"] = Quantity(estimate=row.win_rate, values=values, bounds=(0.0, 1.0))
        if row.lc_win_rate is not None:
            found[f"lc_win_rate{mark}"] = Quantity(estimate=row.lc_win_rate)
    return found


def _of_scores(source: Evaluation, differences: Sequence[Difference]) -> dict[str, Quantity]:
    """By TASK:METRIC, or the metric where it has no task."""
    columns = {(c.task, c.metric, c.model): c for c in scoring.columns(source)}
    found: dict[str, Quantity] = {}
    for row in differences:
        if row.category:
            continue
        ours, theirs = (columns[(row.task, row.metric, model)] for model in (row.a, row.b))
        gaps = np.array([ours.values[i] - theirs.values[i] for i in ours.values if i in theirs.values])
        bounded = ours.right_or_wrong and theirs.right_or_wrong
        name = f"{row.task}:{row.metric}" if row.task else row.metric
        found[name] = Quantity(estimate=row.difference, values=gaps, bounds=(-1.0, 1.0) if bounded else None)
    return found


def _with_delta(
    found: dict[str, Quantity], judges: Sequence[str], differences: Sequence[Difference]
) -> dict[str, Quantity]:
    """Without verdicts, a single difference of scores is `delta`, too."""
    whole = [name for name in found if ":" in name or not name.startswith(("delta", "win_rate", "lc_win_rate"))]
    if not judges and len([d for d in differences if not d.category]) == 1:
        return {"delta": found[whole[0]], **found}
    return found


def net(win_rate: Estimate) -> Estimate:
    """Share won less share lost, from -1 to 1: twice the win rate less one, and so its interval."""

    def scaled(value: float | None) -> float | None:
        return None if value is None else 2 * value - 1

    return replace(
        win_rate, value=scaled(win_rate.value), low=scaled(win_rate.low), high=scaled(win_rate.high),
    )  # fmt: skip
