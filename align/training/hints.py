"""What the data have to help with a prompt, told to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from align.data.hints import COLUMN, hinted, hints_of, tokens_of
from align.errors import RunError
from align.training.writing import Prompt


@dataclass(frozen=True)
class HintColumn:
    """The column `hints` of the data. RunError, which names the row, for one that cannot be told."""

    tokenizer: Any
    template: str
    room: int  # tokens that a prompt may have

    def count(self, prompt: Prompt) -> int:
        return len(self._texts(prompt))

    def told(self, prompt: Prompt, hint: int) -> Prompt:
        asked = hinted(prompt.columns["prompt"], self._texts(prompt)[hint - 1])
        tokens = tokens_of(asked, self.tokenizer, self.template)
        if len(tokens) > self.room:
            raise RunError(
                f"{self._where(prompt)}: with hint {hint} the prompt has {len(tokens)} tokens; {self.room} leave room "
                "for its completion in the model's context. Shorten the hint, then go on with --resume"
            )
        return dataclasses.replace(prompt, tokens=tokens)

    def _texts(self, prompt: Prompt) -> list[str]:
        try:
            return hints_of(prompt.columns)
        except ValueError as error:
            raise RunError(f"{self._where(prompt)}: {error}; correct it, then begin anew") from None

    def _where(self, prompt: Prompt) -> str:
        return f"data: column {COLUMN} of row {prompt.row} of the prepared data"
