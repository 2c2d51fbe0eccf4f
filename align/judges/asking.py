"""A model as a judge: questions become prompts, replies become verdicts, and both are remembered.

`votes`: each question is asked so often and the votes are counted, of pairs by majority (where the best are even, 1/2),
of grades by the mean. Where more than half of the votes cannot be read, there is no verdict.
"""

from __future__ import annotations

import json
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from align.errors import UserError
from align.judges.base import Question, Verdict
from align.judges.budget import UNASKED, Budget, Cost
from align.judges.prompts import Instructions, shown
from align.judges.replies import Ask, Decoding, Replies, Reply, Speaker, make_ask
from align.judges.verdicts import Reading, Shape, read
from align.system.sums import digest_of

POLL = 0.2  # seconds between looks for what another process is being told
AGAIN = "again"  # a column of verdicts that the next run asks for again


@dataclass(frozen=True, kw_only=True)
class ModelJudge:
    """A language model with instructions."""

    name: str
    speaker: Speaker
    instructions: Instructions
    decoding: Decoding = field(default_factory=Decoding)
    votes: int = 1
    rubric: str = ""
    replies: Replies = field(default_factory=Replies)
    budget: Budget = field(default_factory=Budget)
    progress: Callable[[int, int], object] = lambda done, of: None  # replies of this call

    ordered = True  # what it says may depend on who is shown first

    @property
    def pairwise(self) -> bool:
        return self.instructions.kind == "pairwise"

    @property
    def shape(self) -> Shape:
        return self.instructions.shape

    def identity(self) -> dict[str, Any]:
        about = {"instructions": self.instructions.identity, "decoding": asdict(self.decoding), "votes": self.votes}
        return self.speaker.identity() | about | ({"rubric": digest_of(self.rubric)} if self.rubric else {})

    @property
    def revisions(self) -> tuple[str, ...]:
        """Which models have replied, as far as an endpoint has told."""
        return self.replies.served(digest_of(self.speaker.identity()))

    def cost(self, questions: Sequence[Question]) -> Cost:
        """What asking would take; nothing is asked."""
        asks = {ask.key: ask for asked in self._asks(questions) if not isinstance(asked, str) for ask in asked}
        new = [ask for ask in asks.values() if self.replies.get(ask.key) is None]
        prompt = sum(self.speaker.count(ask.messages) for ask in new)
        return Cost(
            calls=len(new), known=len(asks) - len(new), prompt_tokens=prompt,
            completion_tokens=len(new) * self.decoding.max_tokens, exact=self.speaker.exact,
        )  # fmt: skip

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        asked = self._asks(questions)
        told = self._told({ask.key: ask for asks in asked if not isinstance(asks, str) for ask in asks})
        return [self._verdict(q, asks, told) for q, asks in zip(questions, asked, strict=True)]

    def _asks(self, questions: Sequence[Question]) -> list[list[Ask] | str]:
        """For each question its prompts, or what it lacks. UserError where all lack something."""
        who = digest_of(self.speaker.identity())
        made: list[list[Ask] | str] = []
        for q in questions:
            try:
                messages = self.instructions.filled(q, self.rubric)
                made.append([make_ask(who, messages, self.decoding, q.order, q.repeat, v) for v in range(self.votes)])
            except UserError as error:
                made.append(str(error))
        if made and all(isinstance(m, str) for m in made):
            raise UserError(str(made[0]))
        return made

    def _told(self, asks: dict[str, Ask]) -> dict[str, Reply]:
        """A reply for every ask, with a failure where there is none."""
        found: dict[str, Reply] = {}
        waiting, busy = deque(asks.values()), deque[Ask]()

        def claimed() -> Iterator[Ask]:
            while waiting and not self.budget.out:
                ask = waiting.popleft()
                if not self._known(ask) and not self.replies.claim(ask.key):
                    busy.append(ask)
                    continue
                self.replies.refresh()
                if self._known(ask):
                    self.replies.release(ask.key)
                elif self.budget.take(self._most(ask)):
                    yield ask
                else:  # there may be room again when those that are under way have ended
                    self.replies.release(ask.key)
                    waiting.appendleft(ask)
                    return

        while waiting and not self.budget.out:
            for ask, reply in self._spoken(claimed()):
                found[ask.key] = reply
                self.progress(len(found), len(asks))
            if not waiting and busy:
                time.sleep(POLL)
                self.replies.refresh()
                waiting, busy = busy, deque[Ask]()
        unasked = Reply(failure=f"{UNASKED}: {self.budget.told}")
        return {key: self.replies.get(key) or found.get(key) or unasked for key in asks}

    def _spoken(self, asks: Iterator[Ask]) -> Iterator[tuple[Ask, Reply]]:
        """Replies as they come, remembered; no claim outlasts it."""
        try:
            for ask, reply in self.speaker.speak(asks):
                self.budget.settle(self._most(ask), 0 if reply.failure else reply.tokens)
                if not reply.failure:
                    self.replies.put(ask, reply)
                self.replies.release(ask.key)
                yield ask, reply
        finally:
            self.replies.release_all()

    def _known(self, ask: Ask) -> bool:
        return self.replies.get(ask.key) is not None

    def _most(self, ask: Ask) -> int:
        """Tokens that a call may take."""
        return self.speaker.count(ask.messages) + ask.decoding.max_tokens if self.budget.tokens is not None else 0

    def _verdict(self, question: Question, asks: list[Ask] | str, told: dict[str, Reply]) -> Verdict:
        if isinstance(asks, str):
            return no_verdict(self.name, question, asks)
        replies = [told[ask.key] for ask in asks]
        if failed := [reply.failure for reply in replies if reply.failure]:
            return no_verdict(self.name, question, failed[0], {AGAIN: True})
        return read_verdict(self.name, question, replies, self.shape)


def no_verdict(judge: str, question: Question, why: str, columns: dict[str, Any] | None = None) -> Verdict:
    return Verdict(
        item=question.item, models=question.models, judge=judge, order=question.order, repeat=question.repeat,
        score=None, why=why, columns=columns or {},
    )  # fmt: skip


def said(judge: str, question: Question, score: float, **columns: Any) -> Verdict:
    return Verdict(
        item=question.item, models=question.models, judge=judge, order=question.order, repeat=question.repeat,
        score=score, columns=columns,
    )  # fmt: skip


def read_verdict(judge: str, question: Question, replies: Sequence[Reply], shape: Shape) -> Verdict:
    """What the replies to one question say, in the order of its models."""
    answers = shown(question)
    readings = [read(reply.text, shape, answers, cut=reply.stop == "length") for reply in replies]
    counted = combined(readings, shape)
    columns: dict[str, Any] = {}
    paid = [(r.prompt_tokens, r.completion_tokens) for r in replies]
    if all(None not in pair for pair in paid):
        columns["tokens"] = {"prompt": sum(p or 0 for p, _ in paid), "completion": sum(c or 0 for _, c in paid)}
    if counted.grades is not None:
        columns["grades"] = list(counted.grades[::-1] if question.order == "ba" else counted.grades)
    if counted.flags:
        columns["flags"] = list(counted.flags)
    if len(replies) > 1:
        columns["votes"] = len(replies)  # `raw` is a list
    if any(cut := [reply.stop == "length" for reply in replies]):
        columns["cut"] = cut
    value = counted.value
    if value is not None and shape.pairwise and question.order == "ba":
        value = 1 - value
    texts = [reply.text for reply in replies]
    return Verdict(
        item=question.item, models=question.models, judge=judge, order=question.order, repeat=question.repeat,
        score=value, strong=counted.strong, why=counted.why, columns=columns,
        raw=texts[0] if len(texts) == 1 else json.dumps(texts, ensure_ascii=False),
    )  # fmt: skip


def combined(readings: Sequence[Reading], shape: Shape) -> Reading:
    """Several votes of one judge as one."""
    if len(readings) == 1:
        return readings[0]
    flags = tuple(dict.fromkeys(flag for reading in readings for flag in reading.flags))
    values = [reading.value for reading in readings if reading.value is not None]
    if 2 * len(values) <= len(readings):
        whys = "; ".join(dict.fromkeys(reading.why for reading in readings if reading.why))
        return Reading(value=None, why=f"{len(readings) - len(values)} of {len(readings)} votes cannot be read: {whys}")
    if not shape.pairwise:
        return Reading(value=sum(values) / len(values), flags=flags)
    counts = Counter(values)
    most = max(counts.values())
    leading = [value for value, count in counts.items() if count == most]
    if len(leading) > 1:
        return Reading(value=0.5, flags=(*flags, "the votes are split"))
    strong = sum(r.strong for r in readings if r.value == leading[0])
    return Reading(value=leading[0], strong=2 * strong > most, flags=flags)
