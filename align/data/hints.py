"""The data column `hints`: texts that help with a prompt, from the least to the most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from align.data.reading.messages import Text
from align.data.reading.rows import Row
from align.data.text.script import Writer
from align.data.text.tokens import Encoder

COLUMN = "hints"


def hints_of(columns: Mapping[str, Any]) -> list[str]:
    """None where the row has no such column. ValueError where it is not a list of texts with something in them."""
    found = columns.get(COLUMN)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(hint, str) and hint.strip() for hint in found):
        raise ValueError(f"{COLUMN} is {found!r}; expected a list of texts, from the least hint to the most")
    return found


def hinted(asked: Text, hint: str) -> Text:
    """The prompt with the hint on a line of its own at its end, in the last message where it is messages."""
    if isinstance(asked, str):
        return f"{asked}\n{hint}"
    return [*asked[:-1], {**asked[-1], "content": f"{asked[-1]['content']}\n{hint}"}]


def tokens_of(columns: Mapping[str, Any], hint: str, writer: Writer, encoder: Encoder) -> np.ndarray:
    """(L,) int32: a prompt with a hint, as data are prepared. `columns` are as `Store.marked` has them."""
    asked = hinted(columns["prompt"], writer.as_text(hint))
    row = Row(
        key="", prompt=asked, completions=(), numbers={}, tools=columns.get("tools") or None,
        template_kwargs=columns.get("chat_template_kwargs") or {},
    )  # fmt: skip
    return encoder.one(writer.script(row)).members[0].prompt
