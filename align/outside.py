"""What a recipe names in files of the user's own: `package.module:attribute`, also from the working folder.

Such code is run so that nothing else depends on it but by its answers: it is given inputs of its own (`own`), and what
it draws from the global generators follows from its place in the run alone (`drawing`).
"""

from __future__ import annotations

import importlib
import inspect
import os
import random
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, TypeVar

from align import here_last
from align.errors import UserError, did_you_mean

T = TypeVar("T")


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
        with contained(), drawing(0):  # what is drawn on importing is the same in every process
            return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        lost = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
        if lost and not f"{module}.".startswith(f"{lost}."):
            raise UserError(f"{kind} {name}: {module} imports {lost}, which is not installed here") from None
        if module.endswith(".py"):
            raise UserError(f"{kind} {name}: leave out .py: {module.removesuffix('.py')}:{attribute}") from None
        wanted = "Class" if kind == "method" else "function"
        cure = _hidden(module) or f"write package.module:{wanted}, importable from here{_near(module, attribute)}"
        raise UserError(f"{kind} {name}: {error}; {cure}") from None
    except Exception as error:  # whatever a file that is not ours may raise when it is read
        raise UserError(f"{kind} {name}: {type(error).__name__} on importing {module}: {error}") from error


def _near(module: str, attribute: str) -> str:
    """What may be meant: another name of the module, or another file of this folder."""
    if found := sys.modules.get(module):
        near = did_you_mean(attribute, [name for name in vars(found) if not name.startswith("_")])
    else:
        near = did_you_mean(module, [path.stem for path in Path().glob("*.py")])
    return f".{near}" if near else ""


def require_arguments(kind: str, name: str, function: Any, given: Mapping[str, Any]) -> None:
    """UserError where a function cannot be called with these, in this order."""
    told = f"it is called as f({', '.join(given)})"
    if not callable(function):
        raise UserError(f"{kind} {name}: {type(function).__name__} is not callable; name a function: {told}")
    try:
        inspect.signature(function).bind(*given.values())
    except ValueError:  # no function of Python's
        return
    except TypeError as error:
        raise UserError(f"{kind} {name}: {error}; {told}") from None


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


def own(value: T) -> T:
    """A copy down to what cannot be changed, for code that may change what it is given."""
    if value is None or isinstance(value, str | int | float):
        return value
    if type(value) is list:
        return [own(one) for one in value]  # type: ignore[return-value]
    if type(value) is dict:
        return {key: own(one) for key, one in value.items()}  # type: ignore[return-value]
    return deepcopy(value)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Within it python's, numpy's and torch's global generators begin at `seed` (0 to 2^64 - 1); then they go on as if
    nothing had been drawn.

    torch's are left alone where nobody has imported it, and in a thread beside the training, which draws from them too.
    """
    generators = list(_generators())
    before = [(put_back, state()) for state, put_back, _ in generators]
    try:
        for *_, begin_at in generators:
            begin_at(seed)
        yield
    finally:
        for put_back, state in before:
            put_back(state)


Generator = tuple[Callable[[], Any], Callable[[Any], Any], Callable[[int], Any]]  # its state, put back, begin at a seed


def _generators() -> Iterator[Generator]:
    yield random.getstate, random.setstate, random.seed
    import numpy as np  # a command that imports no code of others should not wait for it

    yield np.random.get_state, np.random.set_state, lambda seed: np.random.seed([seed & 0xFFFFFFFF, seed >> 32, 1])
    torch = sys.modules.get("torch")
    if torch is None or threading.current_thread() is not threading.main_thread():
        return
    yield torch.get_rng_state, torch.set_rng_state, torch.default_generator.manual_seed
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        yield torch.cuda.get_rng_state, torch.cuda.set_rng_state, torch.cuda.manual_seed
