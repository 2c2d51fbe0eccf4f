"""Other projects' words for our keys: what they stand under here, what has no meaning and why, what is not offered.

The tables are files of tables/, one for each project, with a few parts: `here` (theirs: ours, or in words where it is
no key), `no_meaning` and `not_offered` (theirs: why), `same` (theirs: TRL's word for it), `defaults` (what the project
does where nothing is said), `trainers` (the same parts, for one of them), `without` (trainers that have no method
here), and `older` (words of versions before). `like` names the table whose words hold as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

TABLES = Path(__file__).parent / "tables"
PROJECTS = ("trl", "handbook", "open_r1", "llama_factory", "axolotl", "openrlhf")  # whose files are read
PARTS = ("here", "no_meaning", "not_offered", "defaults")


@dataclass(frozen=True)
class Words:
    """The words of a project, as one of its trainers means them."""

    project: str  # as messages name it
    version: str
    trainer: str
    here: dict[str, str] = field(default_factory=dict)
    no_meaning: dict[str, str] = field(default_factory=dict)
    not_offered: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    same: dict[str, str] = field(default_factory=dict)

    def __contains__(self, word: str) -> bool:
        return word in self.every()

    def every(self) -> set[str]:
        """All words of the project that are known."""
        return {*self.here, *self.no_meaning, *self.not_offered, *self.same}

    def own(self, word: str) -> str:
        """The project's name of what TRL calls `word`."""
        return next((own for own, trl in self.same.items() if trl == word), word)


@cache
def table(name: str) -> dict[str, Any]:
    """A file as it stands."""
    return yaml.safe_load((TABLES / f"{name}.yaml").read_text(encoding="utf-8"))


def lineage(name: str) -> Iterator[dict[str, Any]]:
    """The table, and before it those whose words hold as well."""
    own = table(name)
    if "like" in own:
        yield from lineage(own["like"])
    yield own


def trainers(name: str) -> list[str]:
    """The trainers of a project that have a method here."""
    own = table(name)
    return own.get("offers") or list(dict.fromkeys(t for one in lineage(name) for t in one.get("trainers", {})))


def without(name: str) -> dict[str, str]:
    """Its trainers that have none: what comes nearest."""
    return {k: why for one in lineage(name) for k, why in one.get("without", {}).items()}


@cache
def words_of(name: str, trainer: str = "") -> Words:
    """The words of a project; without a trainer those that all of its trainers have."""
    own = table(name)
    words = Words(own["project"], own["version"], trainer)
    for one in lineage(name):
        for part in (one, one.get("older", {}), one.get("trainers", {}).get(trainer) or {}):
            _add(words, part)
    for theirs, trl in words.same.items():
        words.here.setdefault(theirs, words.here.get(trl) or _place_of(trl))
    return words


def _add(words: Words, part: Mapping[str, Any]) -> None:
    """A later part has the last word on what each of its keys is."""
    for name in PARTS[:3]:
        for key, said in part.get(name, {}).items():
            for other in PARTS[:3]:
                getattr(words, other).pop(key, None)
            getattr(words, name)[key] = str(said)
    words.defaults.update(part.get("defaults", {}))
    words.same.update(part.get("same", {}))


def _place_of(word: str) -> str:
    """Where a word of TRL's stands: of all trainers, else of the first that has it."""
    own = table("trl")
    parts = [*lineage("trl"), own["older"], *own["trainers"].values()]
    return next(part["here"][word] for part in parts if word in part.get("here", {}))
