"""Scores of answers, into the folder's scores/: what is not there yet, and a word where a score would differ now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from align.system.lines import Tell, warn
from align_eval.generation.answers import Written
from align_eval.records import Answer, Item, Score
from align_eval.scorers.judge import judge, metric_of, no_answer
from align_eval.store import append_scores, read_scores
from align_eval.tasks.task import Task

COSTLY = ("code",)  # scorers that are asked only about what has no score; others are asked again, which checks them


def score(folder: Path, task: Task, items: Sequence[Item], written: Written, tell: Tell = warn) -> list[Score]:
    """Every score of a model's answers to a task, in the order of the answers; those that are missing have None."""
    known = {(s.item, s.sample, s.metric): s for s in read_scores(folder, tell) if s.model == written.model}
    by_id = {item.id: item for item in items}
    found: list[Score] = []
    with ThreadPoolExecutor((os.cpu_count() or 1) if task.score.by in COSTLY else 1) as pool:
        for scores in pool.map(lambda answer: _of(task, by_id[answer.item], answer, known), written.answers):
            found += scores
    for lost in written.missing:
        nothing = Answer(item=lost.item, model=lost.model, sample=lost.sample, text="")
        found += no_answer(task, nothing, f"no answer: {lost.why}", [task.scored_metric])
    lost = {(m.item, m.sample) for m in written.missing if m.again}  # they may come yet, and are scored then
    new = [s for s in found if (s.item, s.sample, s.metric) not in known and (s.item, s.sample) not in lost]
    append_scores(folder, new)
    changed = [s for s in found if (old := known.get((s.item, s.sample, s.metric))) and old.score != s.score]
    if changed:
        first = f"{changed[0].item} by {changed[0].metric}"
        tell(
            f"{task.name}: {len(changed)} scores of {written.model} would be others now than those in {folder}/scores "
            f"(the first is {first}); those that are there count. Take a new folder to score anew"
        )
    return [known.get((s.item, s.sample, s.metric), s) for s in found]


def _of(task: Task, item: Item, answer: Answer, known: dict[tuple[str, int, str], Score]) -> list[Score]:
    there = known.get((answer.item, answer.sample, metric_of(task, task.scored_metric)))
    if task.score.by in COSTLY and there is not None and there.score is not None:
        return [there]
    return judge(task, item, answer)
