"""Methods by their names, and whether a class is whole enough to be one: what is missing is said at once."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from typing import Any, TypeVar

from align.errors import UserError, did_you_mean
from align.methods.acronyms import ACRONYMS
from align.outside import load_outside

NO_METHODS = ("base", "metrics", "acronyms", "lookup", "hooks")  # files beside those of the methods
M = TypeVar("M")


def method_names() -> list[str]:
    """Every method of this package: one file each."""
    package = importlib.import_module("align.methods")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in NO_METHODS)


def find(name: str, base: type[M]) -> type[M]:
    """The class over `base` that is called `name`, or `package.module:Class`. UserError where there is none."""
    if ":" in name:
        found = load_outside("method", name)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise UserError(f"method {name}: {found!r} is not a subclass of align.methods.base.Method")
        return _whole(found, name)
    known = method_names()
    if name in ACRONYMS:
        raise UserError(ACRONYMS[name])
    if name not in known:
        raise UserError(f"no such method: {name}; there are {', '.join(known)}.{did_you_mean(name, known)}")
    module = importlib.import_module(f"align.methods.{name}")
    for _, cls in inspect.getmembers(module, inspect.isclass):
        if issubclass(cls, base) and getattr(cls, "name", None) == name:
            return _whole(cls, name)
    raise UserError(f"method {name}: {module.__file__} has no method whose `name` is {name}")


def _whole(cls: type[Any], spelt: str) -> type[Any]:
    """The class. UserError, which begins with the name by which it was found, where it lacks something."""
    if not isinstance(getattr(cls, "name", None), str):
        raise UserError(f"method {spelt}: {cls.__name__} has no name; write `name = ...` in the class, a text")
    fields = {f.name for f in dataclasses.fields(cls)}
    annotations: dict[str, object] = vars(cls).get("__annotations__", {})
    if knobs := [knob for knob, said in annotations.items() if knob not in fields and "ClassVar" not in str(said)]:
        raise UserError(
            f"method {spelt}: {', '.join(knobs)}: no knob yet, since {cls.__name__} is no dataclass; "
            "write @dataclass(frozen=True, kw_only=True) above it"
        )
    try:
        cls.needs()
    except TypeError as error:
        raise UserError(
            f"method {spelt}: {error}; write class {cls.__name__}(OfflineMethod[Pairs[Referenced]]), or OnlineMethod, "
            "with a batch type of align.batches or of yours"
        ) from None
    return cls


def not_annotated(cls: type, knob: str) -> str:
    """What to do about a knob that a recipe names, and that is in the class as a plain number or text; else empty."""
    bases = {name for base in cls.__mro__[1:] for name in vars(base).get("__annotations__", {})}
    found = vars(cls).get(knob)
    if knob in bases or not isinstance(found, bool | int | float | str):
        return ""
    return f" It is in {cls.__name__}, without an annotation: write `{knob}: {type(found).__name__} = {found!r}`."
