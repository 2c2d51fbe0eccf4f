"""Whoever scores answers by themselves, and rules: `longer` and `shorter`, and every reward function.

Of two answers the one that scores more is better, and equal scores are a tie; the scores stand in `grades`. Who is
shown first makes no difference.

Characters are counted without white space at both ends. A reward function is one of `align.rewards`, or
package.module:function of the user's own; one that looks at token ids needs a tokenizer to be named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

from align.errors import RunError, UserError, did_you_mean
from align.judges.asking import AGAIN, no_verdict, said
from align.judges.base import Question, Verdict
from align.models.settings import ModelSection
from align.models.sources import resolve, side_sums
from align.rewards.base import Sample, Text, reward_names, text_of
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import RewardFunctions, make_reward_functions
from align.system.origins import code_of
from align.system.sums import digest_of


class Score(NamedTuple):
    """What an answer scores, or why there is no score."""

    value: float | None
    why: str = ""
    failed: bool = False  # whoever scores raised or was late: asking again may help


class NoTokens(list[int]):
    """Token ids of an answer that nobody has tokenized. Who looks at them is told that, not that there are none."""

    def __deepcopy__(self, memo: object) -> NoTokens:
        return self

    def _refuse(self, *_: object) -> NoReturn:
        cure = "name the model whose tokens are meant, tokenizer=FOLDER"
        raise RunError(f"looks at completion_ids, and an answer is a text: {cure}")

    __len__ = __iter__ = __getitem__ = __bool__ = _refuse


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """Scores of single answers as verdicts."""

    name: str
    pairwise: bool = True  # of two answers; else the score is the verdict
    batch_size: int = 32

    ordered = False  # what it says does not depend on who is shown first

    def identity(self) -> dict[str, Any]:
        raise NotImplementedError

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        """Of prompts and answers that differ."""
        raise NotImplementedError

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        """Each answer to a prompt is scored once, in whatever questions it stands."""
        samples: dict[str, Sample] = {}
        for q in questions:
            for answer in q.answers:
                samples.setdefault(_key(q, answer), sample_of(q, answer))
        found = dict(zip(samples, self.scores(list(samples.values())), strict=True)) if samples else {}
        return [self.verdict(q, [found[_key(q, answer)] for answer in q.answers]) for q in questions]

    def verdict(self, question: Question, scores: Sequence[Score]) -> Verdict:
        if lost := [(m, score) for m, score in zip(question.models, scores, strict=True) if score.value is None]:
            again = {AGAIN: True} if any(score.failed for _, score in lost) else {}
            return no_verdict(self.name, question, "; ".join(f"the answer of {m}: {s.why}" for m, s in lost), again)
        values = [score.value for score in scores if score.value is not None]
        if len(values) == 1:
            return said(self.name, question, values[0])
        better = 0.5 if values[0] == values[1] else float(values[0] > values[1])
        return said(self.name, question, better, grades=values)


def _key(question: Question, answer: str) -> str:
    return repr((question.prompt, answer, question.reference, question.columns))


def sample_of(question: Question, answer: str) -> Sample:
    told = {**question.columns, **({"reference": question.reference} if question.reference else {})}
    written = as_completion(question.prompt, answer)
    return Sample(prompt=question.prompt, completion=written, completion_ids=NoTokens(), columns=told)


def as_completion(prompt: Text, answer: str) -> Text:
    """In the form of the prompt: a text, or a message."""
    return answer if isinstance(prompt, str) else [{"role": "assistant", "content": answer}]


LENGTHS: dict[str, Callable[[str], float]] = {
    "longer": lambda text: float(len(text.strip())),
    "shorter": lambda text: -float(len(text.strip())),
}


def rule_names() -> list[str]:
    """Of this package."""
    return [*LENGTHS, *reward_names()]


@dataclass(frozen=True, kw_only=True)
class RuleJudge(Scorer):
    """A rule: `longer`, `shorter`, or a reward function."""

    rule: str
    settings: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = ""  # a folder, for rules that count tokens

    def __post_init__(self):
        if self.rule in LENGTHS:
            if self.settings or self.tokenizer:
                raise UserError(f"rule {self.rule}: takes no settings")
            return
        known = rule_names()
        if self.rule not in known and not {".", ":"} & set(self.rule):
            there = f"{', '.join(known)}, or package.module:function"
            raise UserError(f"rule {self.rule}: no such rule; there are {there}.{did_you_mean(self.rule, known)}")
        if self._functions.comparing and not self.pairwise:
            raise UserError(f"rule {self.rule}: compares answers, so it cannot grade one")

    def identity(self) -> dict[str, Any]:
        about: dict[str, Any] = {"rule": self.rule, "settings": self.settings, "pairwise": self.pairwise}
        if self.tokenizer:
            about["tokenizer"] = digest_of(side_sums(resolve(self.tokenizer)))
        return about | ({"code": code_of(self.rule)} if ":" in self.rule else {})

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        if self.rule in LENGTHS:
            return [Score(LENGTHS[self.rule](text_of(s.completion))) for s in samples]
        with self._mistakes():
            told = self._functions(self._tokenized(samples))
        return [self._value(one.rewards, one.failed) for one in told]

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        if self.rule in LENGTHS or not self._functions.comparing:
            return super().judge(questions)
        groups = [self._tokenized([sample_of(q, answer) for answer in q.answers]) for q in questions]
        with self._mistakes():
            told = self._functions.compare(groups)
        return [
            self.verdict(q, [self._value(one.rewards, one.failed) for one in pair])
            for q, pair in zip(questions, told, strict=True)
        ]

    @contextmanager
    def _mistakes(self) -> Iterator[None]:
        """A function that is no reward function, or looks at tokens that nobody has made, is a mistake of whoever
        named it, not an answer's."""
        try:
            yield
        except RunError as error:
            raise UserError(f"judge {self.name}: {error}") from None

    def _value(self, rewards: dict[str, float | None], failed: dict[str, str]) -> Score:
        (value,) = rewards.values()
        why = next(iter(failed.values()), "")
        return Score(value) if value is not None else Score(None, why or "the rule does not apply", bool(why))

    def _tokenized(self, samples: Sequence[Sample]) -> list[Sample]:
        if not self.tokenizer:
            return list(samples)
        ids = [self._tokens(text_of(s.completion), add_special_tokens=False)["input_ids"] for s in samples]
        return [replace(sample, completion_ids=own) for sample, own in zip(samples, ids, strict=True)]

    @cached_property
    def _functions(self) -> RewardFunctions:
        function = Function(name=self.rule, settings=self.settings)
        return make_reward_functions(RewardSection(functions=[function], on_error="mark"))

    @cached_property
    def _tokens(self) -> Any:
        from align.models.tokenizer import load_tokenizer  # torch takes seconds, which few rules need

        return load_tokenizer(ModelSection(model_name_or_path=self.tokenizer))
