"""A causal model in this process that judges, through the local engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np

from align.data.reading.messages import BadRow
from align.judges.prompts import Messages
from align.judges.replies import Ask, Decoding, Reply
from align.rollout.folder import FolderWriter, Said, Style, identity_of

STOPS = {"eos": "stop", "stop_string": "stop"}


@dataclass(frozen=True)
class LocalSpeaker:
    """A model folder, a finished run, a hub name or asset:NAME."""

    model: str
    batch_size: int = 16  # replies written side by side

    exact = True

    def __post_init__(self):
        assert self.writer.folder

    def identity(self) -> dict[str, Any]:
        return self._identity

    def count(self, messages: Messages) -> int:
        try:
            return len(self._ids(messages))
        except BadRow:
            return 0

    def speak(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """A batch at a time, so that a kill loses no more than that."""
        while batch := list(islice(asks, self.batch_size)):
            prompts: dict[str, np.ndarray] = {}
            for ask in batch:
                try:
                    prompts[ask.key] = self._fitting(ask)
                except BadRow as error:
                    yield ask, Reply(failure=str(error))
            for decoding in dict.fromkeys(ask.decoding for ask in batch):
                asked = [ask for ask in batch if ask.key in prompts and ask.decoding == decoding]
                said = self.writer.write([prompts[a.key] for a in asked], [(a.seed,) for a in asked], _style(decoding))
                for ask, (one,) in zip(asked, said, strict=True):
                    yield ask, _reply(one, len(prompts[ask.key]))

    def _fitting(self, ask: Ask) -> np.ndarray:
        ids, room = self._ids(ask.messages), self.writer.context - ask.decoding.max_tokens
        if len(ids) > room:
            raise BadRow(f"the prompt is longer than the {room} tokens that {ask.decoding.max_tokens} of a reply leave")
        return ids

    def _ids(self, messages: Messages) -> np.ndarray:
        """Some templates have no place for a system turn: its text goes before the user's."""
        try:
            return self.writer.ids([dict(m) for m in messages])
        except BadRow:
            if len(messages) == 1:
                raise
            return self.writer.ids([{"role": "user", "content": "\n\n".join(m["content"] for m in messages)}])

    @cached_property
    def writer(self) -> FolderWriter:
        return FolderWriter(self.model, batch_size=self.batch_size)

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return dict(identity_of(self.model))


def _style(decoding: Decoding) -> Style:
    return Style(max_new_tokens=decoding.max_tokens, temperature=decoding.temperature, top_p=decoding.top_p)


def _reply(said: Said, prompt_tokens: int) -> Reply:
    stop = STOPS.get(said.stop, said.stop)
    return Reply(text=said.text, stop=stop, prompt_tokens=prompt_tokens, completion_tokens=said.num_tokens)
