"""What a recipe names in files of the user's own: `package.module:attribute`, also from the working folder."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from align import here_last
from align.errors import UserError


class AskedToEnd(Exception):
    """Code that is not ours would have ended the whole process."""

    @classmethod
    def by(cls, error: SystemExit) -> AskedToEnd:
        told = cls(f"it calls sys.exit({'' if error.code is None else repr(error.code)})")
        return told.with_traceback(error.__traceback__)


@contextmanager
def contained() -> Iterator[None]:
    """Around code that is not ours: `sys.exit` in it is an error like any other, not the end of this process."""
    try:
        yield
    except SystemExit as error:
        raise AskedToEnd.by(error) from None


def load_outside(kind: str, name: str) -> Any:
    """The attribute. UserError, which begins with `kind` and the name, where it cannot be had."""
    module, _, attribute = name.partition(":")
    here_last()
    try:
        with contained():
            return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        lost = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if lost and not f"{module}.".startswith(f"{lost}."):
            raise UserError(f"{kind} {name}: {module} imports {lost}, which is not installed here") from None
        if module.endswith(".py"):
            raise UserError(f"{kind} {name}: leave out .py: {module.removesuffix('.py')}:{attribute}") from None
        wanted = "Class" if kind == "method" else "function"
        cure = _hidden(module) or f"write package.module:{wanted}, importable from here"
        raise UserError(f"{kind} {name}: {error}; {cure}") from None
    except Exception as error:  # whatever a file that is not ours may raise when it is read
        raise UserError(f"{kind} {name}: {type(error).__name__} on importing {module}: {error}") from error


def _hidden(module: str) -> str:
    """The cure where a file of the working folder is not found because something installed has its name."""
    first = module.partition(".")[0]
    own = PathFinder.find_spec(first, [os.getcwd()])
    taken = getattr(sys.modules.get(first), "__file__", None)
    if own is None or own.origin is None or taken is None or Path(taken).samefile(own.origin):
        return ""
    return f"{own.origin} is hidden by {taken}, which is installed under the same name: rename it"


def place_of(error: Exception) -> str:
    """What was raised, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
