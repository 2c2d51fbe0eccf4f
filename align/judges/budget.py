"""What judging costs, and a limit to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

UNASKED = "not asked"  # so begins the reason why what a budget had no room for is not there


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
        return f"the budget of {self._limits} is spent"

    @property
    def spent(self) -> str:
        return f"{self.spent_calls:,} calls, {self.spent_tokens:,} tokens as far as they were told"

    @property
    def _limits(self) -> str:
        limits = [f"{n:,} {what}" for n, what in ((self.calls, "calls"), (self.tokens, "tokens")) if n is not None]
        return " and ".join(limits)

    def foretold(self, cost: Cost) -> str:
        """Whether it has room for what is to be asked; empty where there is no limit."""
        if self.calls is None and self.tokens is None:
            return ""
        most = cost.prompt_tokens + cost.completion_tokens
        over_calls, over_tokens = self._over(cost.calls, most)
        if not over_calls and not over_tokens:
            return f"the budget of {self._limits} has room for all of it"
        asked = f"{cost.calls:,} calls" if over_calls else f"at most {most:,} tokens"
        return f"the budget of {self._limits} {'ends' if over_calls else 'may end'} it before all {asked} are made"

    def take(self, tokens: int, calls: int = 1) -> bool:
        """Begins calls that take at most so many tokens, where there is room for them."""
        over = any(self._over(self.spent_calls + calls, self.spent_tokens + self._reserved + tokens))
        self.out |= over and not self._running
        if not over:
            self.spent_calls += calls
            self._running += calls
            self._reserved += tokens
        return not over

    def settle(self, tokens: int, paid: int | None, calls: int = 1) -> None:
        """Calls have ended. What was not told to be paid (None) is counted as the most."""
        self._reserved -= tokens
        self._running -= calls
        self.spent_tokens += tokens if paid is None else paid

    def _over(self, calls: int, tokens: int) -> tuple[bool, bool]:
        return calls > (math.inf if self.calls is None else self.calls), \
            tokens > (math.inf if self.tokens is None else self.tokens)
