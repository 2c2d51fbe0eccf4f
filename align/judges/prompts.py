"""What a model is told to judge by: instructions as YAML files with a version, filled with a question.

    version: 1            raised whenever a word changes that could change a verdict
    kind: pairwise        or graded
    form: letters         how the verdict is written (`verdicts`)
    low, high             of grades
    labels                of the form `labels`: {"Output (a)": A, ...}
    system, user          texts with {prompt}, {answer_a}, {answer_b} or {answer}, {reference}, {rubric}, {fence}

What is filled in is never looked at again for placeholders. `{fence}` is a mark that follows from all that is filled
in, so that an answer cannot close its own frame: it would have to hold a sum of itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from align.errors import UserError, did_you_mean
from align.judges.base import Question, Text
from align.judges.verdicts import Form, Shape
from align.system.sums import digest_of

SHIPPED = Path(__file__).parent / "instructions"
KEYS = ("version", "kind", "form", "low", "high", "labels", "system", "user")
COMMON = ("prompt", "reference", "rubric", "fence")
ANSWERS: dict[str, tuple[str, ...]] = {"pairwise": ("answer_a", "answer_b"), "graded": ("answer",)}
PLACE = re.compile(r"\{(\w+)\}")
FENCE = 6  # digits of the mark
Messages = list[dict[str, str]]


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """One file of them."""

    name: str
    version: int
    kind: Literal["pairwise", "graded"]
    form: Form
    user: str
    system: str = ""
    low: float = 1.0
    high: float = 10.0
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        pairwise = self.kind == "pairwise"
        return Shape(form=self.form, pairwise=pairwise, low=self.low, high=self.high, labels=self.labels)

    @property
    def identity(self) -> dict[str, Any]:
        """Its name and version for people, and the sum of all of it, which counts."""
        return {"name": self.name, "version": self.version, "sha256": digest_of(vars(self))}

    def needs(self, name: str) -> bool:
        return name in PLACE.findall(self.system + self.user)

    def filled(self, question: Question, rubric: str = "") -> Messages:
        """The messages for a question. UserError for what the instructions need and the question lacks."""
        first, *second = shown(question)
        given = {
            "prompt": as_text(question.prompt), "reference": question.reference,
            "rubric": str(question.columns.get("rubric") or rubric),
        }  # fmt: skip
        given |= dict(zip(ANSWERS[self.kind], (first, *second), strict=True))
        for name in ("reference", "rubric"):
            if self.needs(name) and not given[name].strip():
                cure = "the item's `reference`" if name == "reference" else "rubric=FILE, or the item's column `rubric`"
                raise UserError(f"item {question.item!r}: has no {name}, which instructions {self.name} need ({cure})")
        given["fence"] = digest_of(given)[:FENCE]
        parts = {"system": self.system, "user": self.user}
        return [
            {"role": role, "content": PLACE.sub(lambda m: given[m[1]], text).strip()}
            for role, text in parts.items()
            if text.strip()
        ]


def shown(question: Question) -> tuple[str, ...]:
    """The answers in the order in which they are shown."""
    return question.answers[::-1] if question.order == "ba" else question.answers


def as_text(prompt: Text) -> str:
    """A prompt as it is shown to a judge; a dialogue turn by turn."""
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1:
        return str(prompt[0].get("content", ""))
    return "\n\n".join(f"{str(m.get('role', '')).capitalize()}: {m.get('content', '')}" for m in prompt)


def shipped() -> list[str]:
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def load_instructions(name: str) -> Instructions:
    """Shipped ones by name, or a YAML file. UserError says what is wrong with it."""
    path = SHIPPED / f"{name}.yaml" if name in shipped() else Path(name).expanduser()
    if not path.is_file():
        there = ", ".join(shipped())
        near = did_you_mean(name, shipped())
        raise UserError(f"instructions {name}: no such file; there are {there}, or a YAML file of yours.{near}")
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: expected keys with values ({', '.join(KEYS)}), found {type(found).__name__}")
    return _checked(path, found)


def _checked(path: Path, found: Mapping[str, Any]) -> Instructions:
    if unknown := [key for key in found if key not in KEYS]:
        near = did_you_mean(str(unknown[0]), KEYS)
        raise UserError(f"{path}: {unknown[0]}: no such key; there are {', '.join(KEYS)}.{near}")
    if missing := [key for key in ("version", "kind", "form", "user") if key not in found]:
        raise UserError(f"{path}: misses {', '.join(missing)}")
    for key, choices in (("kind", tuple(ANSWERS)), ("form", get_args(Form))):
        if found[key] not in choices:
            raise UserError(f"{path}: {key}: found {found[key]!r}; expected one of {', '.join(choices)}")
    wanted: dict[str, Any] = {"version": int, "low": (int, float), "high": (int, float), "labels": dict, "system": str,
                              "user": str}  # fmt: skip
    for key, kind in wanted.items():
        if key in found and not isinstance(found[key], kind):
            raise UserError(f"{path}: {key}: found {found[key]!r}")
    made = Instructions(name=path.stem, **found)
    if wrong := _misfit(made):
        raise UserError(f"{path}: {wrong}")
    return made


def _misfit(made: Instructions) -> str:
    """What in instructions does not fit together; empty where all does."""
    known = (*COMMON, *ANSWERS[made.kind])
    if strange := [place for place in PLACE.findall(made.system + made.user) if place not in known]:
        return f"{{{strange[0]}}}: no such placeholder of {made.kind} instructions; there are {', '.join(known)}"
    if lost := [answer for answer in ANSWERS[made.kind] if not made.needs(answer)]:
        return f"does not show {{{lost[0]}}}"
    if made.form != "json" and (made.form != "grade") != (made.kind == "pairwise"):
        return f"the form {made.form} does not fit {made.kind} instructions"
    if made.form == "labels" and not made.labels:
        return 'the form labels needs labels, such as {"Output (a)": A, "Output (b)": B}'
    wrong = [value for value in made.labels.values() if str(value).lower() not in ("a", "b", "c", "tie")]
    return f"labels: found {wrong[0]!r}; expected A, B or tie" if wrong else ""
