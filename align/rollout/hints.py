"""What the data have to help with a prompt, told to it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from align.data.hints import hints_of, tokens_of
from align.data.text.script import Writer
from align.data.text.tokens import Encoder
from align.errors import RunError
from align.rollout.writer import Prompt


@dataclass(frozen=True)
class HintColumn:
    """The column `hints` of the data."""

    writer: Writer
    encoder: Encoder
    marked: Callable[[int], Mapping[str, Any]]  # the columns of a row of the prepared data, as they are rendered
    room: int  # tokens that a prompt may have
    place: Callable[[int], str]  # of a row of the prepared data, for complaints

    def count(self, prompt: Prompt) -> int:
        return len(hints_of(prompt.columns))

    def told(self, prompt: Prompt, hint: int) -> Prompt:
        """RunError, which names the row, where the prompt has too many tokens with it."""
        told = hints_of(prompt.columns)[hint - 1]
        tokens = tokens_of(self.marked(prompt.row), told, self.writer, self.encoder)
        if len(tokens) > self.room:
            raise RunError(
                f"data.train: {self.place(prompt.row)}: with hint {hint} the prompt has {len(tokens)} tokens; "
                f"{self.room} leave room for its completion in the model's context. Shorten the hint, or set a smaller "
                "rollout.max_completion_length (a run that is resumed then: --allow-changes data)"
            )
        return dataclasses.replace(prompt, tokens=tokens)
