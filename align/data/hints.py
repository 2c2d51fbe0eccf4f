"""The data column `hints`: texts that help with a prompt, from the least to the most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from align.data.chat import Writer
from align.data.messages import Text
from align.data.rows import Row
from align.data.tokens import Encoder

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


def tokens_of(asked: Text, tokenizer: Any, template: str) -> np.ndarray:
    """(L,) int32: a prompt, as data are prepared."""
    script = Writer(tokenizer, template).script(Row(key="", prompt=asked, completions=(), numbers={}))
    return Encoder(tokenizer).encode([script])[0].members[0].prompt
