"""Reward functions that were given as objects, from Python: `align.rewards.given:NAME` finds them meanwhile.

What makes them a part of what the run is are their sources, which are kept in the run folder: a run that has others is
another run. What a function takes from around it counts where it is a number, a text or a function beside it.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import tokenize
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import CellType, CodeType
from typing import Any

from align.errors import UserError
from align.system.files import inner_folder, replace_file
from align.system.sums import digest_of

Function = Callable[..., Any]
SAID = ("compares", "reads", "asks", "calls")  # what a reward function may say of itself
_functions: dict[str, Function] = {}


def __getattr__(name: str) -> Function:
    if name in _functions:
        return _functions[name]
    raise AttributeError(
        f"{name} was given as an object, from Python, and only there the run can go on: "
        "align.Run(FOLDER).resume(rewards=[...]) with the same ones"
    )


@contextmanager
def given(functions: Mapping[str, Function]) -> Iterator[None]:
    """Within it these functions are found by their names."""
    before = dict(_functions)
    _functions.update(functions)
    try:
        yield
    finally:
        _functions.clear()
        _functions.update(before)


def name_for(function: Function, folder: Path, taken: Mapping[str, Function]) -> tuple[str, Function | None]:
    """How a recipe names a function: `package.module:function` where it can be imported, else as one that is given.

    Of these comes what is found under the name, too: the function, with its source in `folder` among what it reads.
    `taken` are those that were named before.
    """
    if not callable(function):
        raise UserError(f"rewards: {function!r}: expected a function, a reward's name, or {{name: ..., weight: ...}}")
    if (place := _place_of(function)) is not None:
        return place, None
    plain = re.sub(r"\W+", "_", getattr(function, "__name__", type(function).__name__)).strip("_") or "reward"
    name = next(n for n in (plain, *(f"{plain}_{i}" for i in range(2, len(taken) + 3))) if n not in taken)
    file = inner_folder(folder) / f"{name}.py.txt"
    replace_file(file, source_of(function))

    @functools.wraps(function)
    def asked(*values: Any, **columns: Any) -> Any:
        return function(*values, **columns)

    for word in SAID:
        if hasattr(function, word):
            setattr(asked, word, getattr(function, word))
    asked.inputs = [file, *getattr(function, "inputs", [])]  # type: ignore[attr-defined]
    return f"{__name__}:{name}", asked


def _place_of(function: Function) -> str | None:
    """package.module:function, where another process would find the very same under it."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    loaded = sys.modules.get(module or "")
    file = getattr(loaded, "__file__", None)
    if module in (None, "__main__") or file is None or not name.isidentifier():
        return None
    return f"{module}:{name}" if getattr(loaded, name, None) is function else None


def source_of(function: Function) -> str:
    """Its text, that of functions beside it which it calls, and the numbers and texts that they take from around."""
    waiting, texts = [function], dict[int, str]()
    taken: dict[str, Any] = {}
    while waiting:
        one = waiting.pop()
        if id(one) in texts:
            continue
        texts[id(one)] = _text(one)
        around = _around(one)
        taken |= {name: value for name, value in around.items() if isinstance(value, str | int | float | bool | None)}
        home = getattr(one, "__module__", None)
        waiting += [v for v in around.values() if inspect.isfunction(v) and v.__module__ == home]
    return "\n".join([*texts.values(), *(f"# {name} = {value!r}" for name, value in sorted(taken.items())), ""])


def _text(function: Function) -> str:
    """Of what has no text that can be read, the sum of its byte code."""
    try:
        return inspect.getsource(function if inspect.isroutine(function) else type(function))
    except (OSError, TypeError, SyntaxError, tokenize.TokenError):  # the last two: a file of that name with other lines
        code = getattr(function, "__code__", None)
        return f"# no text; sum of its byte code: {_sum_of(code) if code else type(function).__qualname__}\n"


def _around(function: Function) -> dict[str, Any]:
    """What it takes from around it, by name: of an object, what it holds."""
    code = getattr(function, "__code__", None)
    if code is None:
        return dict(getattr(function, "__dict__", {}))
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    inner = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
    return {n: function.__globals__[n] for n in _names(code) if n in function.__globals__} | inner


def _names(code: CodeType) -> set[str]:
    inner = [_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return {*code.co_names, *(name for names in inner for name in names)}


def _sum_of(code: CodeType) -> str:
    inner = [_sum_of(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return digest_of([code.co_code.hex(), inner, list(code.co_names)])
