"""A judge's reply becomes a number, or the reason why it has none.

Nothing is guessed: a reply with two different verdicts has none, and neither has one whose only verdict stands in a
quotation (`quoted`), is outside the scale, or never came because the reply was cut. One that is given twice is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from align.judges.explanation import contradiction
from align.judges.quoted import Span, is_quoted, quotations, spoken

Form = Literal["letters", "levels", "grade", "grades", "json", "labels"]
EXAMPLES: dict[str, str] = {
    "letters": "[[A]], [[B]] or [[C]]",
    "levels": "[[A>>B]], [[A>B]], [[A=B]], [[B>A]] or [[B>>A]]",
    "grade": "[[7]]",
    "grades": "two numbers in the first line",
    "json": '{"verdict": ...} or {"score": ...}',
    "labels": "one of the labels",
}
BRACKETS = re.compile(r"\[\[([^\[\]\n]{1,40})\]\]")
NOUN = r"(?:assistant|answer|response|model|output)?\s*"
NUMBER = r"[-+]?\d+(?:\.\d+)?"
WORDS = {"a": 1.0, "b": 0.0, "c": 0.5, "tie": 0.5, "1": 1.0, "2": 0.0}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a verdict is written."""

    form: Form
    pairwise: bool
    low: float = 1.0  # of grades
    high: float = 10.0
    labels: Mapping[str, str] = field(default_factory=dict)  # of the form `labels`: what is written -> A, B, tie


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reply says: of two answers 1 where the first that was shown is better, 0 the second, 1/2 a tie; of one
    its grade."""

    value: float | None
    strong: bool = False
    why: str = ""  # why there is no value
    grades: tuple[float, float] | None = None  # of both answers as shown, where each got one
    flags: tuple[str, ...] = ()  # what is worth knowing of a value that counts


@dataclass(frozen=True)
class Mark:
    """Something in a reply that has the form of a verdict."""

    span: Span
    value: float | None  # None: it has the form and no meaning
    shown: str
    strong: bool = False
    grades: tuple[float, float] | None = None


def read(reply: str, shape: Shape, answers: Sequence[str] = (), *, cut: bool = False) -> Reading:
    """The verdict of a reply about `answers`; `cut`: it was ended by its length limit."""
    text = spoken(reply)
    if text is None:
        return Reading(value=None, why="the reply ends within its thoughts")
    if not text.strip():
        return Reading(value=None, why="the reply is empty")
    found = list(FINDERS[shape.form](text, shape))
    quotes = quotations(text, code=shape.form != "json")
    own = [m for m in found if not is_quoted(text, m.span, quotes, answers) or _is_all(text, m)]
    said = {(m.value, m.strong, m.grades): m for m in own}
    if len(said) == 1:
        return _settled(text, next(iter(said.values())), own[-1], shape, answers)
    if said:
        return Reading(value=None, why=f"says two things: {' and '.join(m.shown for m in said.values())}")
    if found:
        return Reading(value=None, why=f"its only verdict, {found[-1].shown}, stands in a quotation")
    if cut:
        return Reading(value=None, why="was cut at its length limit before a verdict")
    return Reading(value=None, why=f"has no verdict; expected {EXAMPLES[shape.form]}")


def _is_all(text: str, mark: Mark) -> bool:
    """A reply of nothing but the verdict quotes nobody."""
    return text.strip().strip("`*.\" \n").removeprefix("json").strip() == text[mark.span[0] : mark.span[1]].strip()


def _settled(text: str, mark: Mark, last: Mark, shape: Shape, answers: Sequence[str]) -> Reading:
    if mark.value is None:
        return Reading(value=None, why=f"found {mark.shown}; expected {_expected(shape)}")
    flags = list[str]()
    explained = text[: last.span[0]] + text[last.span[1] :]
    if clash := contradiction(explained, mark.value, pairwise=shape.pairwise, high=shape.high):
        flags.append(clash)
    if any(_has_mark(answer, shape) for answer in answers):
        flags.append("an answer has a verdict in it")
    return Reading(value=mark.value, strong=mark.strong, grades=mark.grades, flags=tuple(flags))


def _has_mark(answer: str, shape: Shape) -> bool:
    if shape.form in ("grades", "labels"):  # plain words and numbers
        return False
    return any(mark.value is not None for mark in FINDERS[shape.form](answer, shape))


def _expected(shape: Shape) -> str:
    scale = f" from {shape.low:g} to {shape.high:g}"
    return EXAMPLES[shape.form] + ("" if shape.form in ("letters", "levels", "labels") else f", with numbers{scale}")


# ---- forms ----------------------------------------------------------------------------------------------------------


def _letters(text: str, shape: Shape) -> Iterator[Mark]:
    for m in BRACKETS.finditer(text):
        word = re.fullmatch(rf"{NOUN}([abc]|tie)", m[1].strip(), re.IGNORECASE)
        if word or re.fullmatch(r"[A-Za-z]", m[1].strip()):
            yield Mark(m.span(), WORDS[word[1].lower()] if word else None, m[0])


def _levels(text: str, shape: Shape) -> Iterator[Mark]:
    for m in BRACKETS.finditer(text):
        level = re.fullmatch(rf"{NOUN}([ab])\s*(>>|>|=|<|<<)\s*{NOUN}([ab])", m[1].strip(), re.IGNORECASE)
        if level is None:
            continue
        one, sign, other = level[1].lower(), level[2], level[3].lower()
        if one == other:
            yield Mark(m.span(), None, m[0])
        elif sign == "=":
            yield Mark(m.span(), 0.5, m[0])
        else:
            better = one if ">" in sign else other
            yield Mark(m.span(), WORDS[better], m[0], strong=len(sign) == 2)


def _grade(text: str, shape: Shape) -> Iterator[Mark]:
    for m in BRACKETS.finditer(text):
        inside = re.fullmatch(
            rf"(?:(?:rating|score|grade)\s*:\s*)?({NUMBER})(?:\s*/\s*({NUMBER}))?", m[1].strip(), re.IGNORECASE
        )
        if inside:
            of = float(inside[2]) if inside[2] else shape.high
            value = float(inside[1]) if of == shape.high else None
            yield Mark(m.span(), _within(value, shape), m[0])


def _within(value: float | None, shape: Shape) -> float | None:
    return value if value is not None and shape.low <= value <= shape.high else None


def _grades(text: str, shape: Shape) -> Iterator[Mark]:
    """Two numbers and nothing else in the first line: `9 7.5`, `9, 7.5`."""
    line = re.match(r"\s*([^\n]*)", text)
    assert line
    pair = re.fullmatch(rf"({NUMBER})(?:/{NUMBER})?[\s,;|]+({NUMBER})(?:/{NUMBER})?", line[1].strip().strip("*[]"))
    if pair:
        a, b = (_within(float(n), shape) for n in pair.groups())
        known = None if a is None or b is None else (a, b)
        yield Mark(line.span(1), None if known is None else _of_two(*known), line[1].strip(), grades=known)


def _of_two(a: float, b: float) -> float:
    return 0.5 if a == b else float(a > b)


def _labels(text: str, shape: Shape) -> Iterator[Mark]:
    for label in sorted(shape.labels, key=len, reverse=True):
        for m in re.finditer(rf"(?<!\w){re.escape(label)}(?!\w)", text):
            yield Mark(m.span(), WORDS[shape.labels[label].lower()], label)


def _json(text: str, shape: Shape) -> Iterator[Mark]:
    decoder, at = json.JSONDecoder(object_pairs_hook=_single), 0
    while (start := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            at = start + 1
            continue
        if isinstance(value, dict) and {"verdict", "score", "scores"} & value.keys():
            yield _json_mark((start, at), value, shape)


def _single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _json_mark(span: Span, value: dict[str, Any], shape: Shape) -> Mark:
    shown = json.dumps({k: value[k] for k in ("verdict", "score", "scores") if k in value})[:80]
    if shape.pairwise:
        word = re.fullmatch(rf"{NOUN}(a|b|c|tie)", str(value.get("verdict", "")).strip(), re.IGNORECASE)
        return Mark(span, WORDS[word[1].lower()] if word else None, shown)
    if "score" in value:
        return Mark(span, _within(_number(value["score"]), shape), shown)
    parts = value.get("scores")  # of a rubric's criteria: their mean
    numbers = [_within(_number(v), shape) for v in parts.values()] if isinstance(parts, dict) else []
    known = [n for n in numbers if n is not None]
    return Mark(span, sum(known) / len(known) if known and len(known) == len(numbers) else None, shown)


def _number(value: Any) -> float | None:
    if isinstance(value, str) and re.fullmatch(NUMBER, value.strip()):
        return float(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


FINDERS: dict[str, Callable[[str, Shape], Iterator[Mark]]] = {
    "letters": _letters, "levels": _levels, "grade": _grade, "grades": _grades, "json": _json, "labels": _labels,
}  # fmt: skip
