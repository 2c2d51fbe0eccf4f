"""What an evaluation says, in a sentence or two, and on how much it rests."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from align.report.text import listed, said
from align_eval.analysis.evaluation import Evaluation
from align_eval.items import by_item, judges_of
from align_eval.page.parts import HALF, leads
from align_eval.results.document import Difference, Pair, Ranked, Results
from align_eval.results.wording import told
from align_eval.statistics.estimate import Estimate

MOST = 2  # sentences


def headline(found: Results) -> list[Markup]:
    """Of the leaderboard, else of the first pairs, else of the first differences of scores."""
    sections = found.sections
    if sections.leaderboard:
        return [_of_board(sections.leaderboard)]
    pairs = [r for r in sections.pairs if not r.category]
    if pairs:
        return [_of_pair(r) for r in pairs[:MOST]]
    return [_of_difference(r) for r in [r for r in sections.differences if not r.category][:MOST]]


def facts(found: Results, evaluation: Evaluation) -> list[tuple[str, str]]:
    """Names and numbers for one line."""
    judges, items = len(judges_of(evaluation.verdicts)), len(by_item(evaluation))
    counts = [("models", len(found.models)), ("items", items), ("judges", judges)]
    counts += [("verdicts", len(evaluation.verdicts)), ("scores", len(evaluation.scores))]
    lost = sum(f.count for f in found.failures)
    return [(name, f"{n:,}") for name, n in counts if n] + [("could not be judged, read or made", f"{lost:,}")]


def _of_board(rows: Sequence[Ranked]) -> Markup:
    best = min(rows, key=lambda r: r.rank)
    ties = [r.model for r in rows if r is not best and leads(r, rows)]
    tail = f"; it cannot be told from {listed(ties)}" if ties else f" and stands apart from the {len(rows) - 1} others"
    return _said("{} leads with a rating of {}{}.", best.model, told(best.rating), tail if len(rows) > 1 else "")


def _of_pair(row: Pair) -> Markup:
    by = f" by {row.judge}" if row.judge else ""
    tail = ""
    if (apart := _excludes(row.win_rate, HALF)) is not None:
        could = row.detectable is not None and f"; {row.detectable * 100:.1f} points from 50 % would have shown"
        tail = "; the interval excludes 50 %" if apart else f": they cannot be told apart{could or ''}"
    sentence = "{} wins against {}{} in {} of the prompts{}."
    return _said(sentence, row.a, _strong(row.b), by, told(row.win_rate), tail)


def _of_difference(row: Difference) -> Markup:
    tail = ""
    if (apart := _excludes(row.difference, 0.0)) is not None:
        tail = "; the interval excludes 0" if apart else ": they cannot be told apart"
    sentence = "{} minus {} on {} ({}): {}{}."
    return _said(sentence, row.a, _strong(row.b), row.task, row.metric, told(row.difference, signed=True), tail)


def _excludes(found: Estimate, value: float) -> bool | None:
    """None where there is no interval."""
    if found.low is None or found.high is None:
        return None
    return found.low > value or found.high < value


def _said(sentence: str, name: str, *words: str | Markup) -> Markup:
    """The first place is for a name and made strong."""
    return said(sentence, _strong(name), *words)


def _strong(name: str) -> Markup:
    return said("<strong>{}</strong>", name)
