"""All that an evaluation's folder holds, item by item: for the page, for `inspect` and for `export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.records import Answer, Item, Score, Text
from align_eval.store import read_answers, read_items, read_scores, read_verdicts
from align_eval.store.folder import ITEMS


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Rows in the order of their files; `items` also has those that only answers, verdicts or scores name."""

    items: Sequence[Item]
    answers: Sequence[Answer] = ()
    verdicts: Sequence[Verdict] = ()
    scores: Sequence[Score] = ()
    warnings: Sequence[str] = field(default_factory=list)  # what was odd in the files

    @property
    def models(self) -> list[str]:
        """Of all who wrote or were judged, in the order of their first row."""
        named = [*(a.model for a in self.answers), *(m for v in self.verdicts for m in v.models)]
        return list(dict.fromkeys([*named, *(s.model for s in self.scores)]))

    @property
    def judges(self) -> list[str]:
        return list(dict.fromkeys(v.judge for v in self.verdicts))


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of one item."""

    item: Item
    answers: list[Answer] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)


def read_evaluation(folder: Path) -> Evaluation:
    """UserError: no such folder, nothing in it, or rows that are not as they must be."""
    if not folder.is_dir():
        raise UserError(f"{folder}: is no folder; expected one that align-eval made")
    odd: list[str] = []
    items = read_items(folder, odd.append) if (folder / ITEMS).exists() else []
    answers, verdicts, scores = (
        read_answers(folder, odd.append),
        read_verdicts(folder, odd.append),
        read_scores(folder, odd.append),
    )
    known = {item.id for item in items}
    named = dict.fromkeys(row.item for row in [*answers, *verdicts, *scores])
    strays = [Item(id=name, prompt="") for name in named if name not in known]
    if items and strays:
        odd.append(f"{len(strays)} items have answers, verdicts or scores but no row in {ITEMS}: {strays[0].id}, ...")
    return Evaluation(items=[*items, *strays], answers=answers, verdicts=verdicts, scores=scores, warnings=odd)


def by_item(found: Evaluation) -> dict[str, About]:
    """Each item with all that belongs to it."""
    about = {item.id: About(item=item) for item in found.items}
    for answer in found.answers:
        about[answer.item].answers.append(answer)
    for verdict in found.verdicts:
        about[verdict.item].verdicts.append(verdict)
    for score in found.scores:
        about[score.item].scores.append(score)
    return about


def as_text(prompt: Text) -> str:
    """A prompt as it is read: messages one under the other, each behind its role."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"[{m.get('role', '?')}]\n{content_of(m.get('content', ''))}" for m in prompt)


def content_of(content: Any) -> str:
    """Of a message: a text, or the texts of its parts; what is no text is named by its type."""
    if isinstance(content, list):
        return "\n".join(
            str(p.get("text", f"({p.get('type', 'something')})")) if isinstance(p, dict) else str(p) for p in content
        )
    return str(content)
