"""What reaches a terminal, a log or a pipe: text from models, data, recipes and file names is shown, never obeyed.

A terminal takes orders from control characters: to clear itself, to rename its window, to write right to left.
`visible` is what the report shows of them, too. All that this package prints goes through `say` or a `Guarded` console.
"""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

UNUSUAL = re.compile(r"[^ -~\n\t]")
JOINERS = "\u200c\u200d"  # format characters that writing systems and emoji need
HIDING = ("Cc", "Cf", "Cs", "Zl", "Zp")  # categories of characters that steer, hide or reorder others


def visible(text: object) -> str:
    """The text with each character that steers, hides or reorders others by its number: ⟨U+202E⟩."""
    return UNUSUAL.sub(_numbered, str(text))


def _numbered(found: re.Match[str]) -> str:
    char = found[0]
    if char in JOINERS or unicodedata.category(char) not in HIDING:
        return char
    return f"⟨U+{ord(char):04X}⟩"


def say(text: object, *, file: Any = None, end: str = "\n") -> None:
    """Prints it at once, to the standard output unless a file is given."""
    print(visible(text), file=file, end=end, flush=True)


class Guarded(Console):
    """A console whose own colours and bars reach the terminal, and no orders or markup in what it is given."""

    def __init__(self, *, file: Any = None, width: int | None = None, highlight: bool = True):
        super().__init__(file=file, width=width, highlight=highlight, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for part in super().render(renderable, options):
            yield part if part.control else Segment(visible(part.text), part.style)


class Record(logging.LogRecord):
    """What a library logs."""

    def getMessage(self) -> str:
        return visible(super().getMessage())


class Lasting(io.FileIO):
    """A terminal, pipe or file that may go away or be full: what can no longer be told is lost, and nothing else is."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BlockingIOError:
            raise
        except OSError:
            return memoryview(data).nbytes


def outlast_readers() -> None:
    """From here on this process goes on where nobody reads what it says: `align train ... | head`, a lost terminal."""
    for name in ("stdout", "stderr"):
        if (stream := getattr(sys, name)) is not None:
            stream.flush()
            file = io.BufferedWriter(Lasting(stream.fileno(), "w", closefd=False))
            how = {"encoding": stream.encoding, "errors": stream.errors, "line_buffering": stream.line_buffering}
            setattr(sys, name, io.TextIOWrapper(file, **how, write_through=name == "stderr"))


def guard_complaints() -> None:
    """From here on Python's own tracebacks and warnings, and what libraries log, which quote anything, are shown so."""

    def complain(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        say("".join(traceback.format_exception(kind, error, trace)), file=sys.stderr, end="")

    logging.setLogRecordFactory(Record)
    plain = warnings.formatwarning
    sys.excepthook = complain
    warnings.formatwarning = lambda *about, **more: visible(plain(*about, **more))
