"""Kept replies read anew, after a mend of the parser: nothing is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from align.errors import UserError
from align.judges.asking import read_verdict
from align.judges.base import Question, Verdict
from align.judges.replies import Reply
from align.judges.verdicts import Shape
from align.system.lines import Tell, warn
from align_eval.judging.questions import Material, material_of
from align_eval.judging.run import ABOUT
from align_eval.judging.settings import Judging
from align_eval.store import append_verdicts, read_verdicts
from align_eval.store.judges import read_judges


@dataclass(frozen=True, kw_only=True)
class Reread:
    """What came of reading replies anew."""

    read: int
    changed: list[tuple[Verdict, Verdict]]  # before and after
    without: int  # verdicts that are left as they were: nothing is kept of them that could be read


def reread(folder: Path | str, judges: Sequence[str] = (), tell: Tell = warn) -> Reread:
    """Reads what judges wrote once more, of those that are named or of all; a verdict that changed gets a new revision.

    UserError where no judge of the folder has replies.
    """
    folder = Path(folder)
    shapes = {name: Shape(**note["shape"]) for name, note in read_judges(folder).items() if "shape" in note}
    wanted = {name: shape for name, shape in shapes.items() if not judges or name in judges}
    if not wanted:
        there = ", ".join(shapes) or "none"
        raise UserError(f"{folder}: no judge whose replies can be read anew; there are {there}")
    material = material_of(folder, Judging(), tell)
    read = without = 0
    changed: list[tuple[Verdict, Verdict]] = []
    for before in read_verdicts(folder, tell):
        if before.judge not in wanted or not before.raw:
            without += 1
            continue
        after = _again(before, wanted[before.judge], material)
        read += 1
        if replace(after, revision=before.revision) != before:
            changed.append((before, replace(after, revision=before.revision + 1)))
    append_verdicts(folder, [after for _, after in changed])
    return Reread(read=read, changed=changed, without=without)


def _again(before: Verdict, shape: Shape, material: Material) -> Verdict:
    answers = [material.answers.get(model, {}).get(before.item, []) for model in before.models]
    texts = [samples[-1 if place else 0].text if samples else "" for place, samples in enumerate(answers)]
    if len(set(before.models)) == 2:
        texts = [samples[0].text if samples else "" for samples in answers]
    question = Question(
        item=before.item, prompt="", models=before.models, answers=tuple(texts), order=before.order,
        repeat=before.repeat,
    )  # fmt: skip
    cut = before.columns.get("cut")
    several = json.loads(before.raw) if before.columns.get("votes") else [before.raw]
    stops = ["length" if cut and cut[i] else "" for i in range(len(several))]
    replies = [Reply(text=text, stop=stop) for text, stop in zip(several, stops, strict=True)]
    after = read_verdict(before.judge, question, replies, shape)
    kept = {key: before.columns[key] for key in ("tokens", ABOUT) if key in before.columns}
    return replace(after, columns={**kept, **after.columns})
