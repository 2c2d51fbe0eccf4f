"""What has no score, and what counts as wrong because nothing could be read in it: counted by reason, never dropped."""

from __future__ import annotations

from collections.abc import Sequence

from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import missing_verdicts
from align_eval.records import Score
from align_eval.results.document import Failure

SHOWN = 3  # items that a line names
Metric = tuple[str, str]  # task, metric


def named(score: Score) -> Metric:
    """Task and metric: of a metric TASK:METRIC its parts, else the column `task`."""
    task, colon, metric = score.metric.partition(":")
    told = str(score.columns.get("task", ""))
    return (task, metric) if colon and not told else (told, score.metric.removeprefix(f"{told}:"))


def missing_scores(source: Evaluation) -> list[Failure]:
    """Of all models and tasks, of metrics without a task by the metric; and grades that a judge did not give."""
    groups: dict[tuple[str, str], list[Score]] = {}
    for score in source.scores:
        task, metric = named(score)
        groups.setdefault((task or metric, score.model), []).append(score)
    found = [failure for (task, model), scores in groups.items() for failure in failures(task, model, scores)]
    return [*found, *missing_verdicts([v for v in source.verdicts if len(v.models) == 1])]


def failures(task: str, model: str, scores: Sequence[Score]) -> list[Failure]:
    """Answers without a score, and answers in which none was found, by their reason."""
    groups: dict[tuple[str, str], list[str]] = {}
    for score in scores:
        if score.score is None:
            groups.setdefault(("not scored", score.why), []).append(score.item)
        elif "unparsed" in score.columns:
            groups.setdefault(("unparsed, counted as wrong", str(score.columns["unparsed"])), []).append(score.item)
    return [
        Failure(what=f"{task}: {what}", model=model, count=len(of), why=f"{why} ({_shown(of)})",
                item=of[0] if len(of) == 1 else "")
        for (what, why), of in groups.items()
    ]  # fmt: skip


def _shown(items: Sequence[str]) -> str:
    names = list(dict.fromkeys(items))
    more = f", and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
