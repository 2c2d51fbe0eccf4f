"""What is asked of judges, and details of one, out of KEY=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from align.errors import UserError, did_you_mean
from align.judges.named import JudgeSpec


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Which answers are judged, how often, and what it may cost."""

    models: tuple[str, ...] = ()  # empty: all of the folder
    baseline: str = ""  # the model that all others are compared with; empty: each with each
    itself: bool = False  # each model is compared with itself, too: what the judge says of no difference
    one_order: bool = False  # of two answers, only one is shown first; half as dear, and blind to that bias
    repeats: int = 1  # the same question, asked so often: the judge's own noise
    items: int = 0  # only so many, the first; 0: all
    max_calls: int | None = None  # of models that judge, in this command
    max_total_tokens: int | None = None  # of prompts and replies
    memory: Path | None = None  # where replies are kept; None: in the evaluation's folder
    allow_revision: bool = False  # go on where an endpoint serves another revision than the one that replied before


@dataclass
class Words:
    """KEY=VALUE words, taken by whoever knows the keys."""

    values: dict[str, Any] = field(default_factory=dict)

    def take(self, known: Sequence[str]) -> dict[str, Any]:
        return {key: self.values.pop(key) for key in list(self.values) if key in known}


def words_of(written: Sequence[str]) -> Words:
    """UserError for a word that is none, and for a key that is there twice."""
    values: dict[str, Any] = {}
    for word in written:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"{word}: expected KEY=VALUE, such as repeats=2")
        if key in values:
            raise UserError(f"{key}: is given twice")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[key] = value
    return Words(values)


KINDS: dict[str, tuple[type, ...]] = {
    "bool": (bool,), "int": (int,), "int | None": (int,), "str": (str,), "Path | None": (str,),
    "tuple[str, ...]": (str, list),
}  # fmt: skip


def settings_of(written: Sequence[str], base_url: str = "") -> tuple[Judging, dict[str, Any]]:
    """What is asked, and details of the judge. UserError for a key that neither has."""
    words = words_of(written)
    given = words.take([f.name for f in fields(Judging)])
    details = words.take([f.name for f in fields(JudgeSpec) if f.name != "judge"])
    if base_url:
        details["base_url"] = base_url
    if words.values:
        key = next(iter(words.values))
        known = [f.name for kind in (Judging, JudgeSpec) for f in fields(kind) if f.name != "judge"]
        raise UserError(f"{key}: no such setting; there are {', '.join(known)}.{did_you_mean(key, known)}")
    if "rubric" in details:
        details["rubric"] = _text(Path(str(details["rubric"])).expanduser())
    return _judging(given), details


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"rubric={path}: cannot be read: {error}; name a text file") from None


def _judging(given: dict[str, Any]) -> Judging:
    kinds = {f.name: str(f.type) for f in fields(Judging)}
    for key, value in given.items():
        wanted = KINDS[kinds[key]]
        if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
            raise UserError(f"{key}: found {value!r}; expected {' or '.join(kind.__name__ for kind in wanted)}")
        if type(value) is int and value < (1 if key == "repeats" else 0):
            raise UserError(f"{key}: found {value}; expected {1 if key == 'repeats' else 0} or more")
    if isinstance(models := given.get("models"), str | list):
        given["models"] = tuple(models.split(",") if isinstance(models, str) else map(str, models))
    if given.get("memory"):
        given["memory"] = Path(given["memory"]).expanduser()
    return Judging(**given)
