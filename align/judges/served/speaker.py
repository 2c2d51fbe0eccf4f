"""A model behind an OpenAI-compatible endpoint that judges."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any

from align.errors import UserError
from align.judges.prompts import Messages
from align.judges.replies import Ask, Reply
from align.judges.served.completions import complete, counted, side_by_side, weights_told
from align.judges.served.endpoint import Endpoint, Stopping, Unanswered

LOOK = 10.0  # seconds for what is only worth knowing


@dataclass(frozen=True, kw_only=True)
class EndpointSpeaker:
    """Asks several requests at a time."""

    endpoint: Endpoint
    model: str
    revision: str = ""  # of what is served, where you know it: part of the identity
    concurrency: int = 8
    extra: dict[str, Any] = field(default_factory=dict)  # further keys of every request

    exact = False

    def identity(self) -> dict[str, Any]:
        told = {"revision": self.revision, "extra": self.extra}
        return {"endpoint": self.endpoint.url, "model": self.model, **{k: v for k, v in told.items() if v}}

    def count(self, messages: Messages) -> int:
        return counted(messages)

    def speak(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """RunError where nothing comes back any more, UserError where nothing ever could."""
        if (first := next(asks, None)) is None:
            return
        assert self.weights is not None  # looked up here, not in several threads at once
        yield from side_by_side(
            self.endpoint, self.concurrency, chain([first], asks), self.reply, lambda reply: reply.failure
        )

    def reply(self, ask: Ask) -> Reply:
        """To one prompt; with a failure where none is to be had."""
        try:
            found = complete(self.endpoint, self.body(ask))
        except (Unanswered, Stopping) as error:
            return Reply(failure=str(error) or "was stopped")
        return Reply(
            text=found.text or "", stop=found.stop, prompt_tokens=found.prompt_tokens,
            completion_tokens=found.completion_tokens, served=f"{found.served or self.model} {self.weights}".strip(),
        )  # fmt: skip

    def body(self, ask: Ask) -> dict[str, Any]:
        drawn = ask.decoding
        asked = {"model": self.model, "messages": ask.messages, "max_tokens": drawn.max_tokens,
                 "temperature": drawn.temperature}  # fmt: skip
        if drawn.temperature > 0:
            asked |= {"top_p": drawn.top_p, "seed": ask.seed}
        return {key: value for key, value in (asked | self.extra).items() if value is not None}

    @cached_property
    def weights(self) -> str:
        """The weights that the server says it serves; empty where that is not known."""
        told: dict[str, str] = {}
        with contextlib.suppress(Unanswered, UserError, Stopping):
            once = replace(self.endpoint, retries=0, timeout=min(LOOK, self.endpoint.timeout))
            with once.connected():
                told = weights_told(once, self.model)
        return f"weights {told['weights'][:16]}" if "weights" in told else told.get("root", "")
