"""Answers become questions: of each model, or of each two models to the same item."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from align.errors import UserError, did_you_mean
from align.judges.base import Judge, Order, Question
from align.judges.recorded import RecordedJudge
from align.system.lines import Tell, warn
from align_eval.judging.settings import Judging
from align_eval.records import Answer, Item
from align_eval.store import read_answers, read_items


@dataclass(frozen=True, kw_only=True)
class Material:
    """What there is to judge."""

    items: dict[str, Item]
    answers: dict[str, dict[str, list[Answer]]]  # model -> item -> its samples
    gaps: list[str] = field(default_factory=list)  # what cannot be judged, and why

    @property
    def models(self) -> list[str]:
        return sorted(self.answers)


def material_of(folder: Path, settings: Judging, tell: Tell = warn) -> Material:
    """UserError where there are no answers, or a model is named that has none."""
    items = {item.id: item for item in read_items(folder, tell)[: settings.items or None]}
    answers: dict[str, dict[str, list[Answer]]] = defaultdict(lambda: defaultdict(list))
    strangers = Counter[str]()
    known = items if not settings.items else {item.id for item in read_items(folder, lambda text: None)}
    for answer in read_answers(folder, tell):
        if answer.item in items:
            answers[answer.model][answer.item].append(answer)
        elif answer.item not in known:
            strangers[answer.model] += 1
    if not answers:
        raise UserError(f"{folder}: has no answers to its items; make some with align-eval generate")
    for name in (*settings.models, *([settings.baseline] if settings.baseline else [])):
        if name not in answers:
            there = ", ".join(sorted(answers))
            raise UserError(f"{folder}: no answers of {name!r}; there are {there}.{did_you_mean(name, answers)}")
    wanted = {*(settings.models or answers), *([settings.baseline] if settings.baseline else [])}
    gaps = [f"{n} answers of {model} are to items that {folder} does not have" for model, n in strangers.items()]
    for model in sorted(wanted):
        if missing := len(items) - len(answers[model]):
            gaps.append(f"{missing} of {len(items)} items have no answer of {model}")
        if empty := sum(not samples[0].text.strip() for samples in answers[model].values()):
            gaps.append(f"{empty} answers of {model} are empty, and are judged as such")
    kept = {m: {i: sorted(s, key=lambda a: a.sample) for i, s in answers[m].items()} for m in wanted}
    return Material(items=items, answers=kept, gaps=gaps)


def questions_of(material: Material, judge: Judge, settings: Judging) -> list[Question]:
    """Item by item. UserError where there is nothing to ask."""
    if not judge.pairwise:
        asked = [(item, (model,)) for item in material.items for model in material.models]
    else:
        asked = [(item, pair) for item in material.items for pair in pairs_of(material, settings)]
    questions = [q for item, models in asked for q in _of(material, judge, settings, item, models)]
    if not questions:
        raise UserError("no item has an answer of both models of a pair, so there is nothing to compare")
    return questions


def pairs_of(material: Material, settings: Judging) -> list[tuple[str, str]]:
    """Two models each, always in one order of their names. UserError for one model alone."""
    models = material.models
    pairs = [pair for pair in combinations(models, 2) if not settings.baseline or settings.baseline in pair]
    if not pairs and not settings.itself:
        raise UserError(
            f"there are answers of {models[0]} alone, and two models are needed to compare: generate those of another, "
            "grade each answer by itself (instructions=graded), or compare it with itself (itself=true)"
        )
    return pairs + ([(model, model) for model in models] if settings.itself else [])


def _of(
    material: Material, judge: Judge, settings: Judging, item: str, models: tuple[str, ...]
) -> Iterator[Question]:
    samples = [material.answers[model].get(item, []) for model in models]
    if not all(samples):
        return
    texts = [own[0].text for own in samples]
    if len(models) == 2 and models[0] == models[1]:
        texts[1] = samples[1][-1].text  # another sample, where there is one
    asked = question_of(material.items[item], models, tuple(texts))
    for repeat in range(settings.repeats):
        for order in _orders(judge, settings):
            yield replace(asked, order=order, repeat=repeat)


def question_of(item: Item, models: tuple[str, ...], answers: tuple[str, ...]) -> Question:
    """Of answers to one item, in no order yet."""
    return Question(
        item=item.id, prompt=item.prompt, models=models, answers=answers, reference=_text(item.reference),
        category=item.category, columns=item.columns,
    )  # fmt: skip


def _orders(judge: Judge, settings: Judging) -> tuple[Order, ...]:
    if not judge.pairwise:
        return ("",)
    plain = isinstance(judge, RecordedJudge) and not judge.ordered
    return ("ab",) if settings.one_order or plain else ("ab", "ba")


def _text(reference: Any) -> str:
    """As it is shown to a judge, and told to rules."""
    if reference is None or isinstance(reference, str):
        return reference or ""
    return json.dumps(reference, ensure_ascii=False)
