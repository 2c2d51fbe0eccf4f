"""A recipe in the making, and what has become of each key of the original."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from align.translate.words import Words

LONGEST = 60  # characters of a value in a line about it
OFF = ("no", "none", "null", "false", "off")


class Fate(Enum):
    """What became of a key."""

    HERE = "translated"
    ALREADY = "as it is here without it"
    NO_MEANING = "no meaning here"
    NOT_OFFERED = "not offered"


@dataclass(frozen=True)
class Account:
    """A key of the original, or a default that it leaves standing."""

    key: str
    value: Any
    fate: Fate
    words: str  # where it stands, or why it does not
    given: bool = True


@dataclass
class Launch:
    """Where it is to be trained, as far as the original says."""

    processes: int = 0  # 0: nothing says how many
    nodes: int = 1  # that they are on
    sharding: str = ""  # a file of launch/accelerate
    after: list[str] = field(default_factory=list)  # commands for when it is done

    @property
    def world(self) -> int:
        return self.processes or 1


@dataclass
class Draft:
    """Rules `get` TRL's words, whatever the project calls them, and `put` keys of ours."""

    words: Words
    given: dict[str, Any]
    launch: Launch = field(default_factory=Launch)
    folder: Path = Path()  # what the original names may lie beside it
    recipe: dict[str, Any] = field(default_factory=dict)  # dotted key -> value
    comments: dict[str, str] = field(default_factory=dict)  # dotted key -> where it comes from
    accounts: dict[str, Account] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  # beside the recipe: name -> text
    seen: set[str] = field(default_factory=set)  # words that a rule has asked for

    def get(self, word: str, default: Any = None) -> Any:
        """The original's value, else the project's default, else `default`."""
        own = self.words.own(word)
        self.seen |= {own, word}
        for value in (self.given.get(own), self.words.defaults.get(own), self.words.defaults.get(word)):
            if value is not None:
                return value
        return default

    def assume(self, word: str, value: Any) -> None:
        """What is so where the original does not say it."""
        self.words.defaults[self.words.own(word)] = value

    def says(self, word: str) -> bool:
        return self.given.get(self.words.own(word)) is not None

    def put(self, key: str, value: Any, *of: str, note: str = "") -> None:
        """`key: value` of the recipe, which comes of the words `of`."""
        self.recipe[key] = value
        said = [self.words.own(w) for w in of if self.says(w)]
        alike = [n for n in said if n == key.split(".")[-1] and self.given[n] == value]
        told = [] if alike else [_told(name, self.given[name]) for name in said]
        default = [f"{self.words.project}'s default"] if of and not said else []
        self.comments[key] = "; ".join([*([", ".join(told)] if told else default), *([note] if note else [])])
        for name in said:
            self._account(name, Fate.HERE, f"{key}: {brief(value)}" + (f"; {note}" if note else ""))

    def no_meaning(self, word: str, why: str) -> None:
        self._account(self.words.own(word), Fate.NO_MEANING, why)

    def already(self, word: str, why: str) -> None:
        self._account(self.words.own(word), Fate.ALREADY, why)

    def elsewhere(self, word: str, where: str) -> None:
        """It is done, and by no key of the recipe."""
        self._account(self.words.own(word), Fate.HERE, where)

    def refuse(self, word: str, why: str) -> None:
        """What is asked for, by the original or by the project's default, is not offered."""
        own, value = self.words.own(word), self.get(word)
        self.accounts[own] = Account(own, value, Fate.NOT_OFFERED, why, own in self.given)

    def _account(self, name: str, fate: Fate, words: str) -> None:
        self.seen.add(name)
        before = self.accounts.get(name)
        passed = before is not None and before.fate in (Fate.NO_MEANING, Fate.ALREADY)  # until a later rule needs it
        if name in self.given and (before is None or (fate is Fate.HERE and passed)):
            self.accounts[name] = Account(name, self.given[name], fate, words)
        elif before is not None and name in self.given and fate is before.fate is Fate.HERE:
            self.accounts[name] = Account(name, before.value, fate, f"{before.words}, {words}")


def is_off(value: Any) -> bool:
    """Nothing is asked for by it."""
    return value in (None, False, 0, "", -1) or value in ([], {}, ()) or str(value).lower() in OFF


def _told(name: str, value: Any) -> str:
    return name if isinstance(value, list | dict) else f"{name}: {brief(value)}"


def brief(value: Any) -> str:
    """As YAML has it, in one line."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
