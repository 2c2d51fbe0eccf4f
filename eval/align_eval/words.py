"""Settings as `key=value` words of a command: read into a dataclass, or refused with what there is instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from align.errors import Mistakes, did_you_mean
from align.recipe.text import Written, override
from align.recipe.types import build, names

T = TypeVar("T")
SECTION = "settings"


def no_such(key: str, known: Iterable[str], foreign: Mapping[str, str]) -> str:
    """What is said of a key that a command does not have: its word for what others call so, or what is near."""
    known = list(known)
    hint = f" Here it is {foreign[key]}." if key in foreign else did_you_mean(key, known)
    return f"no such setting.{hint}" if hint else f"no such setting; there are {', '.join(known)}."


def settings_from(words: Sequence[str], kind: type[T], foreign: Mapping[str, str]) -> T:
    """Mistakes with all that is wrong."""
    written = read(words)
    for key in [key for key in written.values if key not in names(kind)]:
        del written.values[key]
        written.wrong(key, no_such(key, names(kind), foreign))
    made = build(written, SECTION, kind, written.values)
    refuse(written)
    assert made is not None
    return made


def read(words: Sequence[str]) -> Written:
    """The values of all words, and what is wrong with the words themselves."""
    written = Written("command line", {})
    sound = [word for word in words if "=" in word and word.partition("=")[0].isidentifier()]
    written.mistakes += [f"{word}: expected KEY=VALUE, such as seed=1" for word in words if word not in sound]
    override(written, sound)
    for key, count in Counter(word.partition("=")[0] for word in sound).items():
        if count > 1:
            written.wrong(key, "is given twice")
    return written


def refuse(written: Written) -> None:
    """Mistakes with all that is wrong, if anything is."""
    if written.mistakes:
        told = [m.removeprefix("command line: ").removeprefix(f"{SECTION}.") for m in written.mistakes]
        raise Mistakes(dict.fromkeys(told))
