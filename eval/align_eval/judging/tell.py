"""What `align-eval judge` says."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.judges.base import Judge
from align.judges.budget import Cost
from align.judges.named import Means, make_judge, read_spec, takes
from align.system.lines import warn
from align.system.terminal import say
from align_eval.analysis.evaluation import evaluation_of
from align_eval.analysis.judges import judge_rows
from align_eval.ending import Ending
from align_eval.judging.reread import reread
from align_eval.judging.run import Judged, costs, judge, means_of
from align_eval.judging.settings import Judging, settings_of
from align_eval.results.document import JudgeRow
from align_eval.results.wording import told

SHOWN = 5  # reasons that are listed
EVERY = 5.0  # seconds between words of progress


class Progress:
    """How far it is, on the standard error."""

    def __init__(self) -> None:
        self.next = time.monotonic() + EVERY

    def __call__(self, done: int, of: int) -> None:
        if time.monotonic() >= self.next:
            say(f"{done} of {of} replies", file=sys.stderr)
            self.next = time.monotonic() + EVERY


def run(folder: Path, named: Sequence[str], words: Sequence[str], base_url: str, *, dry_run: bool) -> None:
    """Judges, or says what that would cost. Stopped, RunError, Incomplete where not all of it could be had."""
    settings, details = settings_of(words, base_url)
    means = means_of(folder, settings, Progress())
    judges = judges_of(named, details, means)
    if dry_run:
        return foretell(folder, judges, settings, means)
    return tell_judged(folder, judges, settings, means)[1].tell(means.budget.told)


def judges_of(named: Sequence[str], details: dict[str, Any], means: Means) -> list[Judge]:
    """All are made before the first is asked: a mistake in the last is told before anything is paid."""
    specs = [read_spec(one, of_one) for one, of_one in zip(named, shared(named, details), strict=True)]
    return [make_judge(spec, means) for spec in specs]


def tell_judged(
    folder: Path, judges: Sequence[Judge], settings: Judging, means: Means
) -> tuple[list[Judged], Ending]:
    """What each judge has said, and how far it came."""
    every: list[Judged] = []
    ending = Ending()
    for one in judges:
        every += (found := judge(folder, one, settings, warn))
        _tell(folder, found, ending)
    if means.budget.spent_calls:
        say(f"asked: {means.budget.spent}")
    return every, ending


def foretell(folder: Path, judges: Sequence[Judge], settings: Judging, means: Means) -> None:
    whole = Cost()
    for one in judges:
        for name, (count, cost) in costs(folder, one, settings).items():
            say(f"{name}: {count:,} questions; {cost if cost is not None else 'no model is asked'}")
            whole += cost or Cost()
    if foretold := means.budget.foretold(whole):
        say(foretold)


def _tell(folder: Path, found: Sequence[Judged], ending: Ending) -> None:
    """What a judge has said, or all of a panel."""
    rows = {row.judge: row for row in judge_rows(evaluation_of(folder))}
    for judged in found:
        for line in lines(judged, rows.get(judged.judge)):
            say(line)
    for gap in found[-1].gaps:
        say(f"  {gap}")
    ending.silent += [j.judge for j in found if j.silent]
    ending.failed += [f"{j.failed:,} questions of {j.judge}" for j in found if j.failed]
    ending.unasked += [f"{j.unasked:,} questions of {j.judge}" for j in found if j.unasked]


def shared(named: Sequence[str], details: dict[str, Any]) -> list[dict[str, Any]]:
    """Details for each of several judges: those that its kind has. UserError for one that no judge takes."""
    if len(named) == 1:
        return [details]
    if "name" in details:
        raise UserError("name: there are several judges; give each its name in a YAML file")
    kinds = [one.partition(":")[0] for one in named]
    for key in details:
        if not any(key in takes(kind) for kind in kinds):
            raise UserError(f"{key}: has no effect on any of {', '.join(named)}; leave it out")
    return [{key: value for key, value in details.items() if key in takes(kind)} for kind in kinds]


def lines(judged: Judged, row: JudgeRow | None) -> Iterator[str]:
    """A judge's verdicts in numbers, what is missing, what is flagged, and how it leans."""
    known = [v for v in judged.verdicts if v.score is not None]
    ties = sum(v.score == 0.5 for v in known if len(v.models) == 2)
    before = len(judged.verdicts) - judged.new
    yield (
        f"{judged.judge}: {len(judged.verdicts):,} questions ({before:,} judged before), {len(known):,} verdicts"
        + (f" ({ties:,} ties)" if ties else "")
        + (f", {len(judged.verdicts) - len(known):,} without" if len(known) < len(judged.verdicts) else "")
    )
    for why, count in judged.missing.most_common(SHOWN):
        yield f"  {count:,} without a verdict: {why}"
    if more := len(judged.missing) - SHOWN:
        yield from [f"  and {more} other reasons: align-eval inspect"] if more > 0 else []
    for flag, count in judged.flags.most_common(SHOWN):
        yield f"  {count:,} flagged: {flag}"
    if row is not None and known:
        agrees = f"; both orders agree in {told(row.order_agreement)}" if row.order_agreement else ""
        again = f"; asked again it says the same in {told(row.self_agreement)}" if row.self_agreement else ""
        longer = f"; the longer answer in {told(row.longer_wins)}" if row.longer_wins else ""
        yield f"  the answer shown first wins {told(row.first_wins)}{longer}{agrees}{again}"


def run_again(folder: Path, names: Sequence[str]) -> None:
    """`--reparse`."""
    found = reread(folder, names)
    say(f"{found.read:,} replies read anew, {len(found.changed):,} verdicts changed, {found.without:,} have no reply")
    for before, after in found.changed[:SHOWN]:
        was, now = (f"{v.score:g}" if v.score is not None else f"none ({v.why})" for v in (before, after))
        say(f"  {before.item} {' and '.join(before.models)} {before.order}: was {was}, is {now}")
