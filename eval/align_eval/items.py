"""Each item of an evaluation with all that belongs to it: for the page, for `inspect` and for `export`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation, evaluation_of
from align_eval.records import Answer, Item, Score, Text
from align_eval.store.folder import ITEMS


@dataclass(frozen=True, kw_only=True)
class About:
    """What is known of one item."""

    item: Item
    answers: list[Answer] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)


def whole(folder: Path) -> Evaluation:
    """The folder's, or an empty one where nothing was asked. UserError where rows are wrong."""
    return evaluation_of(folder) if (folder / ITEMS).exists() or not folder.is_dir() else Evaluation(name=str(folder))


def by_item(found: Evaluation) -> dict[str, About]:
    """In the order of the file; then those that only answers, verdicts or scores name, without a prompt."""
    about = {item.id: About(item=item) for item in found.items}
    for row in (*found.answers, *found.verdicts, *found.scores):
        one = about.setdefault(row.item, About(item=Item(id=row.item, prompt="")))
        if isinstance(row, Answer):
            one.answers.append(row)
        elif isinstance(row, Verdict):
            one.verdicts.append(row)
        else:
            one.scores.append(row)
    return about


def strays(found: Evaluation) -> list[str]:
    """A warning where rows name items that were never asked."""
    known = {item.id for item in found.items}
    names = [name for name in by_item(found) if name not in known]
    if not names:
        return []
    return [f"{len(names)} items have answers, verdicts or scores but no row in {ITEMS}: {names[0]}, ..."]


def judges_of(verdicts: Sequence[Verdict]) -> list[str]:
    """All of them, also those that grade, in the order of their first verdict."""
    return list(dict.fromkeys(v.judge for v in verdicts))


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
