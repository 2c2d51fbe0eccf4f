"""Values that a cell holds as text, as CSV files and careless exports have them: JSON, or as Python prints them."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

_OPENS = r"[\s\"\[]{0,40}(?:array\s{0,9}\(\s{0,9})?\[?\s{0,9}\{"
STARTS = re.compile(_OPENS)
LOOKS = re.compile(_OPENS + r"\s{0,40}\\?['\"](?:role|from|content|value)\\?['\"]\s{0,9}:")
WORDS = ("content", "value", "tool_calls", "function_call")


def read_value(text: str) -> Any:
    """What JSON or a Python literal holds. ValueError for anything else."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        try:
            return ast.literal_eval(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError):
            raise ValueError(error.msg) from None


def conversation_in(text: str) -> Any:
    """The messages that a text writes out; None where it is any other text.

    ValueError for one that begins like messages and cannot be read.
    """
    if not STARTS.match(text):
        return None
    try:
        found = read_value(text)
    except (ValueError, RecursionError) as error:
        if LOOKS.match(text):
            raise ValueError("nested too deeply" if isinstance(error, RecursionError) else str(error)) from None
        return None
    if isinstance(found, str):  # written out twice
        return conversation_in(found)
    messages = found if isinstance(found, list) else [found]
    return found if messages and all(map(is_message, messages)) else None


def is_message(value: Any) -> bool:
    """Whether it has who speaks, and what is said; also where every key holds a list, one entry for each message."""
    if not isinstance(value, dict):
        return False
    speaker = value.get("role", value.get("from"))
    return isinstance(speaker, str | list) and any(word in value for word in WORDS)
