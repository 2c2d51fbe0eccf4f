"""What judging costs, and a limit to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from align.judges.replies import Reply


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a judge would be asked."""

    calls: int = 0
    known: int = 0  # replies that are remembered
    prompt_tokens: int = 0
    completion_tokens: int = 0  # at most
    exact: bool = True  # whether tokens were counted with the judge's tokenizer

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            calls=self.calls + other.calls, known=self.known + other.known,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens, exact=self.exact and other.exact,
        )  # fmt: skip

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        known = f", {self.known:,} replies are remembered" if self.known else ""
        return (
            f"{self.calls:,} calls, {about}{self.prompt_tokens:,} tokens of prompts, at most "
            f"{self.completion_tokens:,} of replies{known}"
        )


class Budget:
    """At most so many calls, and so many tokens of prompts and replies. A call is begun only where the most that it
    may take is left: so less may be spent than is allowed, and never more (as far as prompts are counted right)."""

    def __init__(self, calls: int | None = None, tokens: int | None = None):
        self.calls, self.tokens = calls, tokens
        self.spent_calls = 0
        self.spent_tokens = 0
        self.out = False  # whether something was not asked for want of it, and nothing is under way
        self._reserved = 0  # tokens that calls under way may take
        self._running = 0

    @property
    def told(self) -> str:
        limits = [f"{n:,} {what}" for n, what in ((self.calls, "calls"), (self.tokens, "tokens")) if n is not None]
        return f"the budget of {' and '.join(limits)} is spent"

    def take(self, tokens: int) -> bool:
        """Begins a call that takes at most so many tokens, where there is room for it."""
        over = self.spent_calls + 1 > (math.inf if self.calls is None else self.calls)
        over |= self.spent_tokens + self._reserved + tokens > (math.inf if self.tokens is None else self.tokens)
        self.out |= over and not self._running
        if not over:
            self.spent_calls += 1
            self._running += 1
            self._reserved += tokens
        return not over

    def settle(self, tokens: int, reply: Reply) -> None:
        """A call has ended. What an endpoint does not tell is counted as the most."""
        self._reserved -= tokens
        self._running -= 1
        if not reply.failure:
            self.spent_tokens += tokens if reply.tokens is None else reply.tokens
