"""Judges that read no instructions: reward models and pairwise models, and what rules (`rules`) share with them.

Of two answers the one that scores more is better, and equal scores are a tie; the scores stand in `grades`. Who is
shown first makes no difference. A pairwise model reads both answers in both orders at once, and says with which
`probability` one is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

from align.batches import Tokens
from align.data.reading.messages import BadRow
from align.errors import RunError
from align.judges.asking import no_verdict, said
from align.judges.base import Question, Verdict
from align.models.embeddings import check_same_vocabulary
from align.rewards.base import Sample, Text
from align.rewards.learned import Reward as Learned
from align.rewards.pairwise.oracle import from_logits
from align.rollout.folder import FolderWriter, identity_of

Score = tuple[float | None, str]  # and why there is none


class NoTokens(list[int]):
    """Token ids of an answer that nobody has tokenized. Who looks at them is told that, not that there are none."""

    def __deepcopy__(self, memo: object) -> NoTokens:
        return self

    def _refuse(self, *_: object) -> NoReturn:
        raise RunError("looks at token ids, which answers have with a tokenizer alone; name one: tokenizer: FOLDER")

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
        if lost := [(m, why) for m, (score, why) in zip(question.models, scores, strict=True) if score is None]:
            return no_verdict(self.name, question, "; ".join(f"the answer of {m}: {why}" for m, why in lost))
        values = [score for score, _ in scores if score is not None]
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


@dataclass(frozen=True, kw_only=True)
class RewardJudge(Scorer):
    """A reward model: what `reward_model` trained, or any one-label sequence classifier."""

    model: str

    def identity(self) -> dict[str, Any]:
        return {"reward": dict(identity_of(self.model)), "pairwise": self.pairwise}

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        found: list[Score] = []
        for sample_batch in _batches(samples, self.batch_size):
            prompts, completions = [s.prompt for s in sample_batch], [s.completion for s in sample_batch]
            found += [(score, "") for score in self._scored(prompts, completions)]
        return found

    def _scored(self, prompts: list[Text], completions: list[Text]) -> list[float]:
        return self._reward(prompts, completions)

    @cached_property
    def _reward(self) -> Learned:
        return Learned(self.model, self.batch_size)


def _batches(samples: Sequence[Sample], size: int) -> Iterator[Sequence[Sample]]:
    return (samples[at : at + size] for at in range(0, len(samples), size))


@dataclass(frozen=True, kw_only=True)
class ImplicitJudge(Scorer):
    """The reward that a policy trained by DPO has learned (arXiv:2305.18290, eq. 5, without the term of the prompt):
    beta (log pi(answer | prompt) - log ref(answer | prompt)), over the answer and its end."""

    model: str
    reference: str
    beta: float = 0.1

    def identity(self) -> dict[str, Any]:
        models = {"implicit": dict(identity_of(self.model)), "reference": dict(identity_of(self.reference))}
        return {**models, "beta": self.beta, "pairwise": self.pairwise}

    def scores(self, samples: Sequence[Sample]) -> list[Score]:
        policy, reference = self._policy, self._reference
        check_same_vocabulary(policy.tokenizer, reference.tokenizer, f"reference {self.reference}")
        rows: dict[int, Tokens] = {}
        found: list[Score] = [(None, "")] * len(samples)
        for place, sample in enumerate(samples):
            try:
                rows[place] = self._fitting(sample)
            except BadRow as error:
                found[place] = (None, str(error))
        ours, theirs = policy.logps(list(rows.values())), reference.logps(list(rows.values()))
        for place, one, other in zip(rows, ours, theirs, strict=True):
            found[place] = (self.beta * (one - other), "")
        return found

    def _fitting(self, sample: Sample) -> Tokens:
        tokens, context = self._policy.tokens(sample.prompt, sample.completion), self._policy.context
        if len(tokens) > context:
            raise BadRow(f"prompt and answer have {len(tokens)} tokens; there is room for {context}")
        return tokens

    @cached_property
    def _policy(self) -> FolderWriter:
        return FolderWriter(self.model, batch_size=self.batch_size)

    @cached_property
    def _reference(self) -> FolderWriter:
        return FolderWriter(self.reference, batch_size=self.batch_size)


@dataclass(frozen=True, kw_only=True)
class PairwiseJudge:
    """A model that reads two answers and scores how much better the first is, in both orders at once (`oracle`)."""

    name: str
    model: str
    batch_size: int = 32
    scale: float = 1.0  # by which the difference of the two logits is divided

    ordered = False
    pairwise = True

    def identity(self) -> dict[str, Any]:
        return {"pairwise": dict(identity_of(self.model)), "scale": self.scale}

    def judge(self, questions: Sequence[Question]) -> list[Verdict]:
        return [self._one(q) for q in questions]

    def _one(self, question: Question) -> Verdict:
        a, b = question.answers

        def score(texts: Sequence[Text]) -> Sequence[float]:
            said_as = [as_completion(question.prompt, str(t)) for t in texts]
            return self._reward([question.prompt] * len(texts), said_as)

        chance = float(from_logits([a, b], score, self.scale)[0, 1])
        return said(self.name, question, 0.5 if chance == 0.5 else float(chance > 0.5), probability=chance)

    @cached_property
    def _reward(self) -> Learned:
        return Learned(self.model, self.batch_size)
