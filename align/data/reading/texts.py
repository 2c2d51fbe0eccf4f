"""The texts of a row, with the system turn before them where a column holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from align.data.reading.messages import BadRow, Text, as_messages, is_answer, to_text


class Texts:
    """The text columns of a row, checked when they are asked for: a column that nobody reads may hold anything.

    `read` are those that were, `told` is what is worth knowing of them.
    """

    def __init__(self, values: dict[str, Any], filled: set[str], as_text: Callable[[Any], Any]):
        """`filled` are the values that templates of the recipe have made, of texts that `as_text` has seen."""
        self.values, self.filled, self.as_text = values, filled, as_text
        self.read: set[str] = set()
        self.nulls: set[str] = set()  # columns that are there, and hold nothing in this row
        self.told: list[str] = []
        if "conversations" in values:
            values.setdefault("messages", values["conversations"])

    def __contains__(self, column: str) -> bool:
        return column in self.values

    def __getitem__(self, column: str) -> Text:
        """BadRow where it is neither text nor messages."""
        self.read |= {column, "conversations"} if column == "messages" else {column}
        text = self._text(column)
        if isinstance(self.values[column], str) and not isinstance(text, str):
            self.told.append(f"`{column}` is a conversation written as text, and is read as one")
        opens = isinstance(text, list) and bool(text) and not is_answer(text[0])
        return self._opened(text, column) if column in ("prompt", "messages") or _is_side(column, opens) else text

    def _text(self, column: str) -> Text:
        value = self.values[column]
        return value if column in self.filled else self.as_text(to_text(value, column))

    def _opened(self, text: Text, column: str) -> Text:
        """With the column `system` as the first turn."""
        said = self._text("system") if self.values.get("system") else ""
        said = said if isinstance(said, str) else "\n\n".join(m["content"] for m in said)
        if not said.strip():
            return text
        self.read.add("system")
        if isinstance(text, list) and text and text[0]["role"] in ("system", "developer"):
            if text[0]["content"].strip() != said.strip():
                cure = 'remove one of them, or set data.columns.system: ""'
                raise BadRow(f"`{column}` has a system turn, and the column `system` holds another; {cure}")
            return text
        if isinstance(text, str):
            self.told.append("the column `system` makes it a conversation, written by the chat template")
        return [{"role": "system", "content": said}, *as_messages(text, "user")]


def _is_side(column: str, opens: bool) -> bool:
    """Whether it is a whole conversation as a side of a pair."""
    return opens and column in ("chosen", "rejected")
