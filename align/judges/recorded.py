"""Verdicts that were given before, by people or by a judge elsewhere, out of a file of one JSON object a line.

    {"item": "q1", "models": ["a", "b"], "winner": "a"}           or "b", "tie", or null with a "why"
    {"item": "q1", "models": ["a", "b"], "order": "ba", "score": 0.5, "repeat": 1, "raw": "...", "columns": {}}
    {"item": "q1", "models": ["a"], "score": 7.5}

`order` is ab where models[0] was shown first. A verdict on (b, a) is also one on (a, b). A row without an order was
given in none, and stands for one question. What is not recorded has no verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from align.errors import UserError, did_you_mean
from align.judges.asking import no_verdict
from align.judges.base import Question, Verdict
from align.system.lines import Tell, read_lines, warn
from align.system.sums import sha256_of

KEYS = ("item", "models", "order", "repeat", "score", "winner", "strong", "why", "raw", "columns", "judge", "revision")
Place = tuple[str, tuple[str, ...], str, int]


@dataclass(frozen=True, kw_only=True)
class RecordedJudge:
    """A file of verdicts of one judge."""

    name: str
    file: Path
    tell: Tell = warn

    def identity(self) -> dict[str, Any]:
        return {"recorded": sha256_of(self.file)}

    @property
    def ordered(self) -> bool:
        """Whether anything is said of the order of showing."""
        return any(order for _, _, order, _ in self.verdicts)

    @property
    def pairwise(self) -> bool:
        return any(len(models) == 2 for _, models, _, _ in self.verdicts)

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        return [self._one(q) for q in questions]

    def unused(self, questions: Sequence[Question]) -> str:
        """What is said of rows that are on none of these questions; empty where all are."""
        asked = {(q.item, frozenset(q.models), q.repeat) for q in questions}
        left = [v for v in self.verdicts.values() if (v.item, frozenset(v.models), v.repeat) not in asked]
        if not left:
            return ""
        first = f"{left[0].item} of {' and '.join(left[0].models)}, repeat {left[0].repeat}"
        return (
            f"{len(left)} of {len(self.verdicts)} verdicts in {self.file} are on what is not asked here: another item, "
            f"model or repeat; the first is on {first}"
        )

    def _one(self, question: Question) -> Verdict:
        for row in self._candidates(question):
            if row is not None:
                return row
        return no_verdict(self.name, question, f"is not recorded in {self.file.name}")

    def _candidates(self, question: Question) -> list[Verdict | None]:
        """As it was asked, with the models the other way round, and without an order."""
        item, models, repeat = question.item, question.models, question.repeat
        back, turned = models[::-1], {"ab": "ba", "ba": "ab", "": ""}[question.order]
        return [
            self._as_asked(question, self.verdicts.get((item, models, question.order, repeat)), turn=False),
            self._as_asked(question, self.verdicts.get((item, back, turned, repeat)), turn=len(models) == 2),
            self._as_asked(question, self.verdicts.get((item, models, "", repeat)), turn=False),
            self._as_asked(question, self.verdicts.get((item, back, "", repeat)), turn=len(models) == 2),
        ]

    def _as_asked(self, question: Question, found: Verdict | None, *, turn: bool) -> Verdict | None:
        if found is None:
            return None
        score = 1 - found.score if turn and found.score is not None else found.score
        columns: dict[str, Any] = {**found.columns, **({} if found.order else {"ordered": False})}
        if turn and isinstance(columns.get("grades"), list):
            columns["grades"] = columns["grades"][::-1]
        return Verdict(
            item=question.item, models=question.models, judge=self.name, order=question.order, repeat=question.repeat,
            score=score, strong=found.strong, why=found.why, raw=found.raw, columns=columns,
        )  # fmt: skip

    @cached_property
    def verdicts(self) -> dict[Place, Verdict]:
        """By item, models, order and repeat. UserError for rows that are none, or that contradict each other."""
        found: dict[Place, Verdict] = {}
        repeated = 0
        for where, row in read_lines(self.file, self.tell):
            verdict = _verdict(where, row, self.name)
            place = (verdict.item, verdict.models, verdict.order, verdict.repeat)
            if place in found and found[place] != verdict:
                about = f"{verdict.item} of {' and '.join(verdict.models)}"
                raise UserError(f"{where}: contradicts an earlier row on {about}")
            repeated += place in found
            found[place] = verdict
        if not found:
            raise UserError(f"{self.file}: holds no verdicts")
        if repeated:
            self.tell(f"{self.file}: {repeated} rows are there more than once; all say the same")
        return found


def _verdict(where: str, row: dict[str, Any], judge: str) -> Verdict:
    if strange := [key for key in row if key not in KEYS]:
        near = did_you_mean(strange[0], KEYS)
        raise UserError(f"{where}: no such key: {strange[0]}; a verdict has {', '.join(KEYS)}.{near}")
    item, models = row.get("item"), row.get("models")
    if not isinstance(item, str):
        raise UserError(f"{where}: item: found {item!r}; expected the id of an item as a text")
    if not isinstance(models, list) or len(models) not in (1, 2) or not all(isinstance(m, str) for m in models):
        raise UserError(f"{where}: models: found {models!r}; expected one or two names in a list")
    if (order := row.get("order", "")) not in ("", "ab", "ba"):
        raise UserError(f"{where}: order: found {order!r}; expected ab (models[0] was shown first), ba, or nothing")
    score = _score(where, row, models)
    why = str(row.get("why") or ("" if score is not None else "no reason was recorded"))
    return Verdict(
        item=item, models=tuple(models), judge=judge, order=order, repeat=int(row.get("repeat") or 0), score=score,
        strong=bool(row.get("strong")), why=why if score is None else "", raw=str(row.get("raw") or ""),
        columns=dict(row.get("columns") or {}),
    )  # fmt: skip


def _score(where: str, row: dict[str, Any], models: list[str]) -> float | None:
    if ("score" in row) == ("winner" in row):
        raise UserError(f"{where}: expected one of score and winner")
    if "winner" in row:
        known = {None: None, "tie": 0.5, **({models[0]: 1.0, models[1]: 0.0} if len(models) == 2 else {})}
        if row["winner"] not in known:
            raise UserError(f"{where}: winner: found {row['winner']!r}; expected {', '.join(models)}, tie or null")
        return known[row["winner"]]
    score = row["score"]
    if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
        raise UserError(f"{where}: score: found {score!r}; expected a number or null")
    if score is not None and len(models) == 2 and not 0 <= score <= 1:
        raise UserError(f"{where}: score: found {score}; expected 0 to 1 for two models (1: {models[0]} is better)")
    return None if score is None else float(score)
