"""In what two notes of who has written or judged differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

SHOWN = 6  # differences that a message names
LONGEST = 60  # characters of a value in a message


def differing(before: Any, now: Any, place: str = "") -> str:
    """Dotted keys with the value of each, `model.url: was "a", now "b"; ...`. Empty where they are the same."""
    found = list(_differences(before, now, place))
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def _differences(before: Any, now: Any, place: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}".lstrip("."))
    elif before != now:
        yield f"{place}: was {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
