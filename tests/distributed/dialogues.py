"""An environment that asks on after a full stop, once: the processes of a launch find it beside their driver."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def ask(prompt: str, text: str, columns: Mapping[str, Any]) -> str | None:
    return " Then what?" if text.count("Then what?") < 1 else None
