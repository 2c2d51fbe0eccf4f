"""Options of a command that are the fields of a dataclass: read from the words of its line, told by their names.

For commands with more options than a function has parameters. A field that is a dict takes KEY=VALUE, and may be given
several times, as may a tuple; one that is a bool takes no value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, TypeVar, get_args, get_type_hints

from align.errors import AlignError, UserError, did_you_mean

D = TypeVar("D")
OWN_OPTIONS: dict[str, Any] = {  # of such a command, for typer
    "allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h", "--help"],
}  # fmt: skip


def options_of(words: Sequence[str], cls: type[D]) -> tuple[D, list[str]]:
    """The options, and all other words in order. UserError names an option that there is none of, or a wrong value."""
    from pydantic import TypeAdapter, ValidationError

    found, rest, others = dict[str, Any](), list(words), list[str]()
    known = {f.name.replace("_", "-"): f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            others.append(word)
            continue
        name, equals, value = word.removeprefix("--").partition("=")
        if name not in known:
            raise UserError(f"--{name}: no such option; there are --{', --'.join(known)}.{did_you_mean(name, known)}")
        if hints[known[name]] is bool:
            found[known[name]] = value if equals else True
            continue
        if not equals and not rest:
            raise UserError(f"--{name}: needs a value")
        value = value if equals else rest.pop(0)
        if "tuple" in str(hints[known[name]]):
            found.setdefault(known[name], []).append(value)
        elif "dict" in str(hints[known[name]]):
            key, equals, of_key = value.partition("=")
            if not equals:
                raise UserError(f"--{name} {value}: expected KEY=VALUE, such as account=physics")
            if key in found.setdefault(known[name], {}):
                raise UserError(f"--{name} {key}: stands twice; keep one of them")
            found[known[name]][key] = of_key
        else:
            found[known[name]] = value
    try:
        made = TypeAdapter(cls).validate_python(found)
    except ValidationError as error:
        for own in (e.get("ctx", {}).get("error") for e in error.errors()):
            if isinstance(own, AlignError):  # what the dataclass itself has found
                raise own from None
        raise UserError("; ".join(_told(e, hints) for e in error.errors())) from None
    for name, field in known.items():
        if isinstance(value := getattr(made, field), float) and not math.isfinite(value):
            raise UserError(f"--{name}: found {value:g}; expected a finite number")
    return made, others


def _told(error: Any, hints: dict[str, Any]) -> str:
    """One of pydantic's findings, in our words where it is one of a few that was expected."""
    name, found = "-".join(map(str, error["loc"])).replace("_", "-"), error["input"]
    if error["type"] == "literal_error":
        return f"--{name}: {found} is none of {', '.join(get_args(hints[error['loc'][0]]))}"
    return f"--{name}: {error['msg']}, found {found!r}"
