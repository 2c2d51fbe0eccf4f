"""What a recipe names in files of the user's own: `package.module:attribute`, also from the working folder."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

from align.errors import UserError


def load_outside(kind: str, name: str) -> Any:
    """The attribute. UserError, which begins with `kind` and the name, where it cannot be had."""
    module, _, attribute = name.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.insert(0, os.getcwd())  # where an installed command, unlike `python -m`, does not look by itself
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        lost = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if lost and not f"{module}.".startswith(f"{lost}."):
            raise UserError(f"{kind} {name}: {module} imports {lost}, which is not installed here") from None
        if module.endswith(".py"):
            raise UserError(f"{kind} {name}: leave out .py: {module.removesuffix('.py')}:{attribute}") from None
        wanted = "Class" if kind == "method" else "function"
        raise UserError(f"{kind} {name}: {error}; write package.module:{wanted}, importable from here") from None
    except Exception as error:  # whatever a file that is not ours may raise when it is read
        raise UserError(f"{kind} {name}: {type(error).__name__} on importing {module}: {error}") from error


def place_of(error: Exception) -> str:
    """What was raised, and where."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}, line {last.lineno})"
