"""A grid over keys of a recipe: `method.beta=0.1,0.3 training.seed=0,1` are four cells, each named as its folder.

A value is YAML, as that of any override is. Commas divide values, but for those in brackets, braces or quotes.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from align.errors import Mistakes, UserError

OURS = ("training.output_dir", "name")  # of each cell another one
PAIRS = {"[": "]", "{": "}"}
LONGEST = 180  # bytes of a name; file systems take 255
ODD = re.compile(r"[^\w.+-]+")


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    name: str  # learning_rate=1e-5,beta=0.1
    words: tuple[str, ...]  # overrides


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What varies, and what all cells have."""

    values: Mapping[str, tuple[str, ...]]  # dotted key -> its values as they were written
    fixed: Sequence[str] = field(default_factory=tuple)  # overrides of all cells

    def cells(self) -> list[Cell]:
        """All combinations; the last key varies first."""
        named = [list(zip(texts, _told(texts), strict=True)) for texts in self.values.values()]
        short = _short(self.values)
        found: list[Cell] = []
        for chosen in itertools.product(*named):
            words = tuple(f"{key}={text}" for key, (text, _) in zip(self.values, chosen, strict=True))
            name = ",".join(f"{key}={told}" for key, (_, told) in zip(short, chosen, strict=True))
            found.append(Cell(_fitting(name), words))
        return found


def read_grid(words: Sequence[str]) -> Grid:
    """From overrides, some with several values. Mistakes with all that is wrong with them as a grid."""
    values: dict[str, tuple[str, ...]] = {}
    fixed, wrong = list[str](), list[str]()
    for word in words:
        key, sign, text = word.partition("=")
        several = parts(text) if sign else [text]
        if sign and key in OURS:
            wrong.append(f"{key}: each cell has its own; the folder of all of them is --out")
        elif len(several) < 2:
            fixed.append(word)
        elif key in values:
            wrong.append(f"{key}: stands twice with several values; give all of them in one word")
        else:
            wrong += _wrong(key, several)
            values[key] = tuple(several)
    wrong += _overruled(values, fixed)
    if wrong:
        raise Mistakes(wrong)
    if not values:
        raise UserError(
            "sweep: no key has several values; write them with commas, such as optim.learning_rate=1e-5,1e-6 (one run "
            "alone is `align train`)"
        )
    return Grid(values=values, fixed=tuple(fixed))


def parts(text: str) -> list[str]:
    """The values in the text of an override, without the blanks around them."""
    marks = [-1, *_commas(text), len(text)]
    return [text[a + 1 : b].strip() for a, b in itertools.pairwise(marks)]


def _commas(text: str) -> Iterator[int]:
    """Places of those that divide values."""
    closing, quote, start, escaped = list[str](), "", 0, False
    for place, char in enumerate(text):
        if quote:
            quote = "" if char == quote and not escaped else quote
            escaped = char == "\\" and quote == '"' and not escaped
        elif char in "'\"" and (closing or not text[start:place].strip()):
            quote = char
        elif char in PAIRS and (closing or not text[start:place].strip()):
            closing.append(PAIRS[char])
        elif closing and char == closing[-1]:
            closing.pop()
        elif char == "," and not closing:
            yield place
            start = place + 1


def _wrong(key: str, several: Sequence[str]) -> Iterator[str]:
    if "" in several:
        yield f"{key}: has an empty value between commas; the default is null, and an empty text is ''"
    for twice in dict.fromkeys(text for text in several if text and several.count(text) > 1):
        yield f"{key}: {twice} stands twice"


def _overruled(values: Mapping[str, object], fixed: Sequence[str]) -> Iterator[str]:
    """What all cells are to have and none would: each sets the same key, or all of the section that it is in."""
    for word in fixed:
        key, sign, _ = word.partition("=")
        over = next((k for k in values if key == k or key.startswith(f"{k}.")), None)
        if sign and over is not None:
            yield f"{key}: stands beside the several values of {over}, which every cell sets; keep one of the two"


# ---- names ----------------------------------------------------------------------------------------------------------


def _short(keys: Mapping[str, object]) -> list[str]:
    """The last word of each key, where no other one has it."""
    last = [key.rpartition(".")[2] for key in keys]
    return [word if last.count(word) == 1 else key for key, word in zip(keys, last, strict=True)]


def _told(texts: Sequence[str]) -> list[str]:
    """Values as a part of a folder's name. Those that look alike there get a hash of what they are."""
    plain = [ODD.sub("-", text.strip("[]{}'\" /")).rstrip("-") or "empty" for text in texts]
    return [
        told if plain.count(told) == 1 else f"{told}-{_sum(text)}" for told, text in zip(plain, texts, strict=True)
    ]  # fmt: skip


def _fitting(name: str) -> str:
    told = name.encode()
    return name if len(told) <= LONGEST else f"{told[:LONGEST].decode(errors='ignore')}-{_sum(name)}"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]
