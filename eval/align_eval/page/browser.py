"""The data of the item browser: an index of all items and verdicts, and their texts in parts that are read when needed.

Texts are cut where all of them would make the page too large; each cut says how much is missing, and the page says
that they are whole in the folder and in `align-eval inspect`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from align.judges.base import Verdict
from align.report.parts.embedded import block, deflated, json_of
from align.report.text import clip
from align.system.terminal import visible
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import is_shown
from align_eval.items import About, as_text, by_item, judges_of

BUDGET = 12_200_000  # bytes of all texts, as they stand in the page
# characters of a text, the largest that fits
LIMITS = (20_000, 8_000, 4_000, 2_800, 2_000, 1_400, 1_000, 700, 500, 350, 250, 180, 120, 60, 0)
PART = 400_000  # characters of JSON in a part, about
HEAD = 110  # characters of a prompt in the list
PROBES = 400  # items by which the size is estimated


@dataclass(frozen=True, kw_only=True)
class Browser:
    """Blocks for the page, and what was cut."""

    blocks: list[Markup]
    items: int
    limit: int
    cut: int  # texts


def browser(found: Evaluation, pair: Sequence[str] = (), order: Sequence[str] = ()) -> Browser:
    """`pair`: the two models that are shown first; `order`: in which models are offered, others after them."""
    about = list(by_item(found).values())
    models = sorted(found.models, key=lambda m: order.index(m) if m in order else len(order))
    judges = judges_of(found.verdicts)
    numbers = {id(v): i for i, v in enumerate(v for one in about for v in one.verdicts)}
    limit = _limit(about, models, numbers)
    cut = _Cut(limit)
    parts: list[Markup] = []
    starts: list[int] = []
    for start, rows in _parts(_texts(one, models, numbers, cut) for one in about):
        parts.append(block(f"texts-{len(parts)}", rows))
        starts.append(start)
    chosen = [m for m in pair if m in models] or models[:2]
    index = {
        "models": [visible(m) for m in models],
        "judges": [visible(j) for j in judges],
        "pair": [models.index(m) for m in chosen[:2]],
        "starts": starts,
        **_index(about, models, judges),
    }
    return Browser(blocks=[block("index", index), *parts], items=len(about), limit=limit, cut=cut.count)


class _Cut:
    """Cuts texts and counts how many it has cut."""

    def __init__(self, limit: int):
        self.limit, self.count = limit, 0

    def __call__(self, text: Any) -> str:
        text = "" if text is None else str(text)
        self.count += len(text) > self.limit
        return visible(clip(text, self.limit))


def _limit(about: Sequence[About], models: Sequence[str], numbers: dict[int, int]) -> int:
    """The largest limit at which the texts of every so manieth item say that all will fit."""
    probes = about[:: max(1, len(about) // PROBES)]
    for limit in LIMITS:
        cut = _Cut(limit)
        size = len(deflated(json_of([_texts(one, models, numbers, cut) for one in probes])))
        if size * len(about) <= BUDGET * len(probes):
            return limit
    return LIMITS[-1]


def _index(about: Sequence[About], models: Sequence[str], judges: Sequence[str]) -> dict[str, Any]:
    categories = list(dict.fromkeys(one.item.category for one in about))
    place, slot, seat = ({name: i for i, name in enumerate(names)} for names in (categories, models, judges))
    verdicts = [(i, v) for i, one in enumerate(about) for v in one.verdicts]
    return {
        "categories": [visible(c) for c in categories],
        "ids": [visible(one.item.id) for one in about],
        "of": [place[one.item.category] for one in about],
        "heads": [visible(" ".join(as_text(one.item.prompt)[: 2 * HEAD].split())[:HEAD]) for one in about],
        "verdicts": {
            "item": [i for i, _ in verdicts],
            "a": [slot[v.models[0]] for _, v in verdicts],
            "b": [slot[v.models[1]] if len(v.models) > 1 else -1 for _, v in verdicts],
            "judge": [seat[v.judge] for _, v in verdicts],
            "swapped": [int(v.order == "ba") if is_shown(v) else None for _, v in verdicts],  # None: nobody knows
            "repeat": [v.repeat for _, v in verdicts],
            "score": [v.score for _, v in verdicts],
        },
        **_scores(about, slot),
    }


def _scores(about: Sequence[About], slot: dict[str, int]) -> dict[str, Any]:
    """Each model's mean over its samples by each metric; None where any of them is missing."""
    metrics = list(dict.fromkeys(s.metric for one in about for s in one.scores))
    rows: dict[tuple[int, int, int], list[float | None]] = {}
    for i, one in enumerate(about):
        for score in one.scores:
            rows.setdefault((i, slot[score.model], metrics.index(score.metric)), []).append(score.score)
    means = [None if None in some else sum(v or 0.0 for v in some) / len(some) for some in rows.values()]
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], []]
    names = ("item", "model", "metric", "value")
    return {
        "metrics": [visible(m) for m in metrics],
        "scores": dict(zip(names, [*columns, means], strict=True)),
    }


def _texts(one: About, models: Sequence[str], numbers: dict[int, int], cut: _Cut) -> dict[str, Any]:
    """Of an item; short keys, because there are many."""
    answers = [
        [models.index(a.model), a.sample, cut(a.text), len(a.text), visible(a.stop), a.num_tokens] for a in one.answers
    ]
    scores = [
        [models.index(s.model), s.sample, visible(s.metric), s.score, cut(s.why)] for s in one.scores
    ]
    reference = "" if one.item.reference is None else str(one.item.reference)
    return {
        "prompt": cut(as_text(one.item.prompt)),
        "reference": cut(reference),
        "answers": answers,
        "scores": scores,
        "verdicts": [[numbers[id(v)], cut(v.raw), cut(v.why), _flags(v)] for v in one.verdicts],
    }


def _flags(verdict: Verdict) -> list[str]:
    """What else is known of a verdict, in words."""
    flags = verdict.columns.get("flags")
    told = [visible(f) for f in flags] if isinstance(flags, list) else []
    grades = verdict.columns.get("grades")
    if isinstance(grades, list) and grades:
        told.append("grades " + " and ".join("none" if g is None else f"{g:g}" if isinstance(g, float | int) else
                                             visible(g) for g in grades))  # fmt: skip
    return [*told, "much better"] if verdict.strong else told


def _parts(rows: Iterator[dict[str, Any]]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Runs of items of about the same size, each with the number of its first item."""
    start, part, size = 0, [], 0
    for number, row in enumerate(rows):
        part.append(row)
        size += sum(len(str(value)) for value in row.values())
        if size >= PART:
            yield start, part
            start, part, size = number + 1, [], 0
    if part:
        yield start, part
