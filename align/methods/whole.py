"""Whether a class is whole enough to be a method: what is missing is said when it is named, not when it is used."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from align.errors import UserError

M = TypeVar("M", bound=type[Any])


def require_whole(cls: M, spelt: str) -> M:
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
