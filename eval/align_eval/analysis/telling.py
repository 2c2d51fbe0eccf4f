"""Results as lines for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from align_eval.analysis.comparison import Comparison
from align_eval.analysis.frontier import Frontier
from align_eval.analysis.leaderboard import Leaderboard
from align_eval.analysis.style import StyleBoard
from align_eval.results.document import Agreement, Difference, Failure, JudgeRow, Pair, Scored
from align_eval.results.wording import p_value, rests_on, told

SHOWN = 8  # reasons of what is missing


def of_comparison(found: Comparison) -> Iterator[str]:
    yield from map(str.rstrip, _compared(found))


def _compared(found: Comparison) -> Iterator[str]:
    yield f"{found.after} against {found.before}"
    for row in found.pairs:
        yield from _pair(row)
    for row in found.differences:
        yield from _difference(row, found.scores)
    for row in found.judges:
        yield from of_judge(row)
    yield from of_agreement(found.agreement)
    yield from of_remarks(found.warnings, found.failures)


def _pair(row: Pair) -> Iterator[str]:
    if row.category:
        yield f"    {row.category:24} {told(row.win_rate)}  {_tests(row)}"
        return
    yield f"  judge {row.judge}: {row.wins:g} won, {row.ties:g} tied, {row.losses:g} lost, {row.missing} missing"
    yield f"    {'win rate':24} {told(row.win_rate)}  {rests_on(row.win_rate)}  {_tests(row)}"
    if row.lc_win_rate is not None:
        yield f"    {'at equal length':24} {told(row.lc_win_rate)}"
    if row.detectable is not None:
        yield f"    {'detectable':24} {row.detectable * 100:.1f} points from one half, 80 times in 100"
    if row.noise_floor is not None:
        yield f"    {'judged twice, within':24} {told(row.noise_floor)}"


def _difference(row: Difference, scores: Sequence[Scored]) -> Iterator[str]:
    name = f"{row.task} {row.metric}".strip()
    if row.category:
        yield f"    {row.category:24} {told(row.difference, signed=True)}  {_tests(row)}"
        return
    yield f"  {name}"
    for one in scores:
        if (one.task, one.metric, one.category) == (row.task, row.metric, ""):
            yield f"    {one.model:24} {told(one.estimate)}  {rests_on(one.estimate)}"
    yield f"    {'difference':24} {told(row.difference, signed=True)}  {rests_on(row.difference)}  {_tests(row)}"


def _tests(row: Pair | Difference) -> str:
    holm = row.adjusted.get("holm")
    shown = ", ".join(f"{name} {p_value(value)}" for name, value in row.tests.items())
    over = f"; Holm over {row.family} {p_value(holm)}" if holm is not None and row.family > 1 else ""
    return f"p: {shown}{over}" if shown else ""


def of_judge(row: JudgeRow) -> Iterator[str]:
    yield f"  judge {row.judge}: {row.n} verdicts, {row.missing} missing"
    shown = {
        "first shown wins": row.first_wins, "longer wins": row.longer_wins, "orders agree": row.order_agreement,
        "agrees with itself": row.self_agreement,
    }  # fmt: skip
    for name, value in shown.items():
        if value is not None:
            yield f"    {name:24} {told(value)}  {rests_on(value)}"


def of_leaderboard(found: Leaderboard) -> Iterator[str]:
    yield from map(str.rstrip, _board(found))
    for row in found.judges:
        yield from of_judge(row)
    yield from of_agreement(found.agreement)
    yield from of_remarks(found.warnings, found.failures)


def _board(found: Leaderboard) -> Iterator[str]:
    wide = max(len(row.model) for row in found.rows)
    yield f"judge {found.judge}"
    yield f"  {'':>4} {'model':{wide}}  {'rating':24} {'win rate':22} cannot be told from"
    for row in found.rows:
        tied = ", ".join(row.tied_with[:4]) + (f" and {len(row.tied_with) - 4} more" if len(row.tied_with) > 4 else "")
        yield f"  {row.rank:>4} {row.model:{wide}}  {told(row.rating):24} {told(row.win_rate):22} {tied}"
    yield f"  best, or not to be told from the best: {', '.join(found.best)}"


def of_styles(found: StyleBoard) -> Iterator[str]:
    wide = max(len(row.model) for row in found.rows)
    yield f"judge {found.judge}"
    yield f"  {'model':{wide}}  {'at equal style':24} {'raw':24} moved by"
    for row in found.rows:
        yield f"  {row.model:{wide}}  {told(row.controlled):24} {told(row.rating):24} {told(row.moved, signed=True)}"
    for effect in found.effects:
        yield f"  one standard deviation more of {effect.feature}: {told(effect.effect, signed=True)}"
    yield from of_remarks(found.warnings, [])


def of_agreement(rows: Sequence[Agreement]) -> Iterator[str]:
    for row in rows:
        who = f"{row.a} and {row.b}" if row.b else row.a
        yield f"  {row.kind} of {who}: {told(row.estimate)}  {rests_on(row.estimate)}"


def of_scores(rows: Sequence[Scored]) -> Iterator[str]:
    for row in rows:
        if not row.category:
            yield f"  {row.model:24} {row.task} {row.metric}: {told(row.estimate)}  {rests_on(row.estimate)}"


def of_frontier(found: Frontier) -> Iterator[str]:
    yield f"{'run':20} {'step':>6} {'KL, nats':>10}  {'reward':28} length"
    for p in found.points:
        length = told(p.length) if p.length is not None else ""
        yield f"{p.run:20} {p.step:>6} {p.kl.value or 0:>10.3f}  {_bare(told(p.reward)):28} {_bare(length)}"
    for run, (kl, reward) in found.peaks.items():
        yield f"{run}: the reward is highest, {reward:.4g}, at {kl:.3g} nats, and falls from there"
    for row in found.equal:
        yield f"at {row.kl:.3g} nats {row.a} earns {_bare(told(row.difference, signed=True))} more than {row.b}"
    yield from of_remarks(found.warnings, [])


def _bare(text: str) -> str:
    return text.partition(" (no interval")[0]


def of_remarks(warnings: Sequence[str], failures: Sequence[Failure]) -> Iterator[str]:
    if failures:
        yield f"  missing: {sum(f.count for f in failures)}"
        for row in failures[:SHOWN]:
            where = ", ".join(part for part in (row.model, row.judge, row.item) if part)
            yield f"    {row.count} x {row.what} ({where}): {row.why}"
        if len(failures) > SHOWN:
            yield f"    and {len(failures) - SHOWN} more reasons, in results.json"
    for text in warnings:
        yield f"  note: {text}"
