"""Values that nobody means: what a recipe or a row may hold all the same."""

from __future__ import annotations

import copy
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**63, -(2**70), 1e-300, 1e308, float("inf"), float("nan"), "", " ", "0", "null",
    "\0", "a\0b", "\u2028", "\x1b[31m", "\ud800", "é" * 5000, "../../x", "/", "~", "{instruction}", "{", "}", "{0}",
    "{a.b}", "%s", "asset:none", "asset:stories260k", "no.such:thing", "math:pi", "auto", [], {}, [[]], [None],
    {"": ""}, {"a": {"b": {"c": []}}}, [1, "a", None], {"name": "x"}, [{"role": "user", "content": "x"}],
    [{"role": "assistant", "content": None}], [{"role": "tool"}], [{"content": 3}], "\n", "<s>", "</s>", "😀", "a b",
)  # fmt: skip


def deep(draw: random.Random) -> Any:
    """Nested as far as no one nests."""
    made: Any = "x"
    for _ in range(draw.choice((30, 200, 2000))):
        made = [made] if draw.random() < 0.5 else {"a": made}
    return made


def strange(draw: random.Random) -> Any:
    if draw.random() < 0.03:
        return deep(draw)
    value = draw.choice(VALUES)
    return copy.deepcopy(value)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every key and item inside, as the way to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [step for key, item in inside for step in ((*path, key), *places(item, (*path, key)))]


def change(draw: random.Random, value: Any) -> str:
    """Changes one place inside: another value, gone, doubled under another name. Says what."""
    found = places(value)
    if not found:
        return "nothing"
    path = draw.choice(found)
    home = value
    for key in path[:-1]:
        home = home[key]
    deed = draw.choice(("replace", "replace", "replace", "remove", "rename"))
    if deed == "remove":
        del home[path[-1]]
    elif deed == "rename" and isinstance(home, dict):
        home[draw.choice(("x", "", 0, None, "namee"))] = home.pop(path[-1])
    else:
        home[path[-1]] = strange(draw)
    return f"{deed} {'.'.join(map(str, path))}"
