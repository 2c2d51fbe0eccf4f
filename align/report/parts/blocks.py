"""What a section of a page is made of. These are data; `templates/blocks.html.j2` has a macro for each of them.

A text is a `str`, which the template escapes, or `Markup` that `align.report.text.said` made, which is safe already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from align.report.parts.figures import Figure


class Block:
    """Something that a section shows, one below the other."""

    kind: ClassVar[str]  # the macro's name


@dataclass(frozen=True, kw_only=True)
class Table(Block):
    """The first cell of each row is its name."""

    kind: ClassVar[str] = "table"
    rows: Sequence[Sequence[str]]
    head: Sequence[str] = ()
    code: bool = False  # cells are settings, as one writes them


@dataclass(frozen=True)
class Figures(Block):
    """Charts side by side. With tools they have a slider for smoothing."""

    kind: ClassVar[str] = "figures"
    drawn: Sequence[Figure]
    tools: bool = False


@dataclass(frozen=True)
class Facts(Block):
    """Names and values in one line."""

    kind: ClassVar[str] = "facts"
    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Notices(Block):
    """Sentences, each with whether it is a warning."""

    kind: ClassVar[str] = "notices"
    sentences: Sequence[tuple[str, bool]]


@dataclass(frozen=True)
class Tiles(Block):
    """Large numbers: name, value, on how much it rests."""

    kind: ClassVar[str] = "tiles"
    numbers: Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class Lines(Block):
    """A list."""

    kind: ClassVar[str] = "lines"
    items: Sequence[str]


@dataclass(frozen=True)
class Words(Block):
    """A paragraph; `note`: smaller, what one needs to know about what stands above."""

    kind: ClassVar[str] = "words"
    text: str
    note: bool = False


@dataclass(frozen=True)
class Code(Block):
    """As it stands in a file."""

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Fold(Block):
    """Folded away under its title."""

    kind: ClassVar[str] = "fold"
    title: str
    inside: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What was written for a prompt, by whom or when, and what is known of it."""

    title: str
    facts: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Card(Block):
    """A prompt with its answers side by side; those in between are folded away."""

    kind: ClassVar[str] = "card"
    prompt: str
    answers: Sequence[Answer]
    between: Sequence[Answer] = ()


@dataclass(frozen=True, kw_only=True)
class Finder(Block):
    """Texts that the page's script searches, filters and sorts."""

    kind: ClassVar[str] = "finder"
    data: Any  # see align.report.samples
    count: int


@dataclass(frozen=True, kw_only=True)
class Section:
    """A titled part of a page that can be folded; left out where it has nothing to show."""

    title: str
    blocks: Sequence[Block]
    open: bool = True
    inside: Sequence[Section] = field(default_factory=tuple)  # one level down
    lead: Sequence[str] = ()  # sentences that stand under the title though it is folded
    key: str = ""  # the element's id


def note(text: str) -> Words:
    return Words(text, note=True)


def fold(title: str, inside: Iterable[Block]) -> list[Block]:
    """Nothing where there is nothing to fold."""
    found = list(inside)
    return [Fold(title, found)] if found else []


def figures(drawn: Iterable[Figure], *, tools: bool = False) -> list[Block]:
    found = list(drawn)
    return [Figures(found, tools)] if found else []
