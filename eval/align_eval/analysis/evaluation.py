"""An evaluation's folder in memory: what was asked, answered, judged and scored, and what was told while reading it."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from align.errors import UserError, did_you_mean, near_path
from align.judges.base import Verdict
from align.system.lines import read_folder
from align_eval import store
from align_eval.generation.identity import unlike
from align_eval.records import Answer, Item, Score
from align_eval.results.document import Failure

UNMADE = "missing"  # a folder of what could not be generated
GRADE = "grade"  # the task of a judge's grades of single answers; the metric is the judge


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    name: str = "these verdicts"  # of the folder, for messages
    items: Sequence[Item] = ()
    answers: Sequence[Answer] = ()
    verdicts: Sequence[Verdict] = ()
    scores: Sequence[Score] = ()
    unmade: Sequence[Failure] = ()  # answers that could not be made
    warnings: list[str] = field(default_factory=list)

    @cached_property
    def pairwise(self) -> list[Verdict]:
        """Of two different models."""
        return [v for v in self.verdicts if len(v.models) == 2 and v.models[0] != v.models[1]]

    @cached_property
    def judges(self) -> list[str]:
        """Those who compared two models."""
        return list(dict.fromkeys(v.judge for v in self.pairwise))

    @cached_property
    def numbers(self) -> list[Score]:
        """Scores, and a judge's grades of single answers as scores of the metric that is called like the judge."""
        grades = [
            Score(item=v.item, model=v.models[0], metric=v.judge, score=v.score, sample=v.repeat, why=v.why,
                  columns={"task": GRADE})
            for v in self.verdicts if len(v.models) == 1
        ]  # fmt: skip
        return [*self.scores, *grades]

    @cached_property
    def models(self) -> list[str]:
        """All that wrote, were judged or scored, in the order in which they appear."""
        judged = [name for v in self.verdicts for name in v.models]
        return list(dict.fromkeys([*(a.model for a in self.answers), *judged, *(s.model for s in self.scores)]))

    @cached_property
    def categories(self) -> dict[str, str]:
        return {item.id: item.category for item in self.items if item.category}

    def by_category(self, items: Iterable[str]) -> list[tuple[str, list[str]]]:
        """Each category with its items, where there is more than one."""
        groups: dict[str, list[str]] = defaultdict(list)
        for item in items:
            if category := self.categories.get(item):
                groups[category].append(item)
        return sorted(groups.items()) if len(groups) > 1 else []

    @cached_property
    def lengths(self) -> dict[str, dict[str, float]]:
        """Characters of each model's answer to each item; the mean of several samples."""
        found: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        for answer in self.answers:
            found[answer.model][answer.item].append(len(answer.text))
        return {m: {item: statistics.fmean(n) for item, n in items.items()} for m, items in found.items()}

    def model(self, name: str) -> str:
        """The name itself. UserError where no such model is here."""
        if name not in self.models:
            there = ", ".join(self.models) or "none"
            raise UserError(f"{self.name}: no model {name!r}; there are {there}.{did_you_mean(name, self.models)}")
        return name

    def only(self, judge: str) -> Evaluation:
        """With the verdicts of one judge. UserError where there are none; an empty name leaves all."""
        known = list(dict.fromkeys(v.judge for v in self.verdicts))
        if judge and judge not in known:
            there = ", ".join(known) or "none"
            raise UserError(f"{self.name}: no judge {judge!r}; there are {there}.{did_you_mean(judge, known)}")
        return replace(self, verdicts=[v for v in self.verdicts if not judge or v.judge == judge])


Source = Evaluation | Path | str


def evaluation_of(source: Source) -> Evaluation:
    """The folder's, read once. UserError where it is none, or its rows are wrong."""
    if isinstance(source, Evaluation):
        return source
    folder = Path(source)
    warnings: list[str] = []
    if not folder.is_dir():
        expected = f"expected an evaluation's, with items.jsonl, answers and verdicts{near_path(folder)}"
        raise UserError(f"{folder}: no such folder; {expected}")
    items, answers = store.read_items(folder, warnings.append), store.read_answers(folder, warnings.append)
    warnings += [*_same_prompts(items), *unlike(folder)]
    return Evaluation(
        name=str(folder),
        items=items,
        answers=answers,
        unmade=_unmade(folder, answers, warnings),
        verdicts=store.read_verdicts(folder, warnings.append),
        scores=store.read_scores(folder, warnings.append),
        warnings=warnings,
    )


def _same_prompts(items: Sequence[Item]) -> list[str]:
    """Intervals take items to be independent, which those of one prompt are not."""
    counts = Counter(json.dumps(item.prompt, sort_keys=True) for item in items)
    if repeated := sum(n for n in counts.values() if n > 1):
        unique = sum(n > 1 for n in counts.values())
        return [f"{repeated} items share {unique} prompts; they count as independent, so intervals may be too narrow"]
    return []


def _unmade(folder: Path, answers: Sequence[Answer], warnings: list[str]) -> list[Failure]:
    """Of `missing/`, those that have not been made since, counted by model and reason."""
    made = {(a.item, a.model, a.sample) for a in answers}
    counts: dict[tuple[str, str], set[tuple[str, int]]] = defaultdict(set)
    for _, row in read_folder(folder / UNMADE, warnings.append):
        item, model, sample = str(row.get("item")), str(row.get("model")), int(row.get("sample") or 0)
        if (item, model, sample) not in made:
            counts[model, str(row.get("why"))].add((item, sample))
    return [Failure(what="answer", model=model, count=len(at), why=why) for (model, why), at in counts.items()]
