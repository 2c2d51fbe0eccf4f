"""Scores of a model on a task become estimates, and what failed becomes a list.

Items are the independent units: several answers to one item are averaged first. An answer in which no answer was found
counts as wrong in the accuracy, and is told beside it: how many there are, and the accuracy of the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from align_eval.generation.answers import Written
from align_eval.records import Item, Score
from align_eval.results.document import Scored
from align_eval.running.estimates import mean_of, none, pass_at, ratio_of, share_of
from align_eval.statistics.estimate import Estimate
from align_eval.tasks.task import Task


def summarise(task: Task, items: Sequence[Item], written: Written, scores: Sequence[Score]) -> list[Scored]:
    """Every metric over all items, the headline first and also by category; lengths and cuts of the answers."""
    made = {metric: _estimate(task, metric, of) for metric, of in _by_metric(task, scores).items()}
    made |= dict(_of_several(task, scores))
    made |= dict(_pooled(task, scores))
    made |= dict(_unparsed(task, scores))
    made |= dict(_of_texts(task, written))
    if task.headline not in made:
        made[task.headline] = none("no answer was scored", "share")
    order = sorted(made, key=lambda metric: metric != task.headline)
    found = [Scored(model=written.model, task=task.name, metric=m, estimate=made[m]) for m in order]
    return [*found, *_by_category(task, items, written.model, scores)]


def _by_metric(task: Task, scores: Iterable[Score]) -> dict[str, list[Score]]:
    found: dict[str, list[Score]] = {}
    for score in scores:
        found.setdefault(score.metric.removeprefix(f"{task.name}:"), []).append(score)
    return found


def _estimate(task: Task, metric: str, scores: Sequence[Score]) -> Estimate:
    """Of a share by Wilson where each item has one answer that is right or wrong."""
    scored = [s for s in scores if s.score is not None]
    if not scored:
        return none(f"none of {len(scores)} answers could be scored: {scores[0].why}", "share")
    return share_of([(s.item, float(s.score or 0.0)) for s in scored])


def _by_category(task: Task, items: Sequence[Item], model: str, scores: Sequence[Score]) -> Iterator[Scored]:
    category = {item.id: item.category for item in items}
    groups: dict[str, list[Score]] = {}
    for score in scores:
        groups.setdefault(category[score.item], []).append(score)
    for name in sorted(groups) if len(groups) > 1 else ():
        of = _by_metric(task, groups[name])
        several = dict(_of_several(task, groups[name]))
        if task.headline in several:
            estimate = several[task.headline]
        elif task.headline in of:
            estimate = _estimate(task, task.headline, of[task.headline])
        else:
            continue
        yield Scored(model=model, task=task.name, metric=task.headline, category=name or "(none)", estimate=estimate)


def _of_several(task: Task, scores: Sequence[Score]) -> Iterator[tuple[str, Estimate]]:
    """pass@k of a task whose answers pass or do not."""
    passed = _by_metric(task, scores).get("passed", [])
    if task.score.by != "code":
        return
    rows = [(s.item, float(s.score)) for s in passed if s.score is not None]
    for k in task.score.k:
        estimate = pass_at(rows, k)
        if estimate.value is not None or f"pass@{k}" == task.headline:
            yield f"pass@{k}", estimate


def _pooled(task: Task, scores: Sequence[Score]) -> Iterator[tuple[str, Estimate]]:
    """`instruction_strict` of IFEval's `instructions_strict`: every instruction weighs the same, not every prompt."""
    for metric, of in _by_metric(task, scores).items():
        counted = [(s.item, s.columns["followed"], s.columns["of"]) for s in of if "of" in s.columns]
        if counted:
            yield metric.replace("instructions_", "instruction_"), ratio_of(counted)


def _unparsed(task: Task, scores: Sequence[Score]) -> Iterator[tuple[str, Estimate]]:
    for metric, of in _by_metric(task, scores).items():
        scored = [s for s in of if s.score is not None]
        if not metric.startswith("accuracy") or not scored or task.mode == "choose":
            continue
        yield f"unparsed{metric.removeprefix('accuracy')}", share_of(
            [(s.item, float("unparsed" in s.columns)) for s in scored]
        )
        parsed = [(s.item, float(s.score or 0.0)) for s in scored if "unparsed" not in s.columns]
        if len(parsed) < len(scored):
            yield f"{metric}_of_parsed", share_of(parsed) if parsed else none("no answer could be parsed", "share")


def _of_texts(task: Task, written: Written) -> Iterator[tuple[str, Estimate]]:
    """How long answers are, and how many were cut; nothing where nobody counted."""
    counted = [(a.item, float(a.num_tokens)) for a in written.answers if a.num_tokens is not None]
    if counted:
        yield "tokens", mean_of(counted, "tokens")
        yield "cut", share_of([(a.item, float(a.stop == "length")) for a in written.answers])
