"""What a method from outside has raised: whose hook it was and where, in one sentence in the place of a traceback."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from align.errors import AlignError, RunError
from align.methods.base import Method
from align.outside import AskedToEnd, contained, place_of
from align.system.machine import lacks

CURE = "correct it, then go on with --resume --allow-changes inputs"


@contextmanager
def answered(where: str = "") -> Generator[None]:
    """Around whatever asks a method: what one from outside raises is told as a RunError, which begins with `where`.

    So is `sys.exit` in any code that is not ours. What a method of this package raises is a defect of ours, whose
    traceback says more.
    """
    begin = f"{where}: " if where else ""
    try:
        with contained():
            yield
    except AlignError:
        raise
    except Exception as error:
        found = fault(error) or (place_of(error) if isinstance(error, AskedToEnd) else "")
        if not found or lacks(error):
            raise
        raise RunError(f"{begin}{found}; {CURE}") from error


def fault(error: BaseException) -> str:
    """`Class.hook: Kind: what it says (file, line)` where a method from outside has raised it, else empty.

    The hook is what was called first; the line is the last one of the method's own files.
    """
    frames = list(traceback.walk_tb(error.__traceback__))
    asked = next((frame for frame, _ in frames if _outside(frame)), None)
    if asked is None:
        return ""
    method: Any = asked.f_locals["self"]
    own = {frame.f_code.co_filename for frame, _ in frames if _is_ours(frame, method)}
    places = [(frame.f_code.co_filename, line) for frame, line in frames if frame.f_code.co_filename in own]
    file, line = (places or [(frames[-1][0].f_code.co_filename, frames[-1][1])])[-1]
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{type(method).__name__}.{asked.f_code.co_name}: {said} ({file}, line {line})"


def _outside(frame: FrameType) -> bool:
    """Whether it is a function of a method that is not of this package, whoever has written that function."""
    asked = frame.f_locals.get("self")
    return isinstance(asked, Method) and not str(asked.__module__).startswith("align.")


def _is_ours(frame: FrameType, method: Any) -> bool:
    """Whether its code stands where the method's class or one of its bases outside this package does."""
    modules = {cls.__module__ for cls in type(method).__mro__ if issubclass(cls, Method)}
    return frame.f_globals.get("__name__") in {name for name in modules if not name.startswith("align.")}
