"""Models that score answers, as judges: reward models, the rewards that DPO has taught, and pairwise models.

A pairwise model reads both answers in both orders at once, and says with which `probability` one is better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from align.batches import Tokens
from align.data.reading.messages import BadRow
from align.judges.asking import said
from align.judges.base import Question, Verdict
from align.judges.rules import Score, Scorer, as_completion
from align.models.embeddings import check_same_vocabulary
from align.rewards.base import Sample, Text
from align.rewards.learned import Reward as Learned
from align.rewards.pairwise.oracle import from_logits, two_answers
from align.rollout.folder import FolderWriter, identity_of


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
            found += map(Score, self._scored(prompts, completions))
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
        found = [Score(None)] * len(samples)
        for place, sample in enumerate(samples):
            try:
                rows[place] = self._fitting(sample)
            except BadRow as error:
                found[place] = Score(None, str(error))
        ours, theirs = policy.logps(list(rows.values())), reference.logps(list(rows.values()))
        for place, one, other in zip(rows, ours, theirs, strict=True):
            found[place] = Score(self.beta * (one - other))
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
        asked: dict[tuple[str, str], tuple[Text, Text]] = {}
        for q in questions:
            for first, second in (q.answers, q.answers[::-1]) if q.answers[0] != q.answers[1] else ():
                both = two_answers(first, second)
                asked.setdefault((repr(q.prompt), both), (q.prompt, as_completion(q.prompt, both)))
        prompts, texts = ([pair[i] for pair in asked.values()] for i in (0, 1))
        logits = dict(zip(asked, self._reward(prompts, texts), strict=True)) if asked else {}
        return [self._one(q, logits) for q in questions]

    def _one(self, question: Question, logits: dict[tuple[str, str], float]) -> Verdict:
        prompt = repr(question.prompt)
        found = from_logits(question.answers, lambda texts: [logits[prompt, str(t)] for t in texts], self.scale)
        chance = float(found[0, 1])
        return said(self.name, question, 0.5 if chance == 0.5 else float(chance > 0.5), probability=chance)

    @cached_property
    def _reward(self) -> Learned:
        return Learned(self.model, self.batch_size)
