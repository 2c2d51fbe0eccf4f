"""How far judges can be relied on: first or longer answers, both orders, asked again, each other, people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import asked, is_shown, per_item, rate, share_of
from align_eval.results.document import Agreement, JudgeRow
from align_eval.statistics.agreement import cohen, fleiss, krippendorff, observed
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.resampling import USUAL, Resampling

LABELS = {1.0: "first", 0.5: "tie", 0.0: "second"}
Question = tuple[str, frozenset[str], int]  # item, models, repeat


def judge_rows(source: Evaluation, how: Resampling = USUAL) -> list[JudgeRow]:
    """One for each judge of two answers. A model against itself counts here, and nowhere else."""
    rows: list[JudgeRow] = []
    for judge in dict.fromkeys(v.judge for v in source.verdicts if len(v.models) == 2):
        said = [v for v in source.verdicts if v.judge == judge and len(v.models) == 2]
        known = [v for v in said if v.score is not None]
        rows.append(
            JudgeRow(
                judge=judge, n=len(said), missing=len(said) - len(known), first_wins=first_wins(known, how),
                longer_wins=longer_wins(source, known, how), order_agreement=order_agreement(known, how),
                self_agreement=self_agreement(known, how),
            )
        )  # fmt: skip
    return rows


def first_wins(verdicts: Sequence[Verdict], how: Resampling = USUAL) -> Estimate:
    """Of verdicts that are no tie: for the answer that was shown first. Half is fair, over both orders."""
    games = [
        (v.item, float((v.score > 0.5) == (v.order == "ab")))
        for v in verdicts if v.score is not None and v.score != 0.5 and is_shown(v)
    ]  # fmt: skip
    return _share(games, how, "no verdict is decided and says who was shown first")


def longer_wins(source: Evaluation, verdicts: Sequence[Verdict], how: Resampling = USUAL) -> Estimate | None:
    """Of verdicts that are no tie: for the answer of more characters. None where no answers are here."""
    games: list[tuple[str, float]] = []
    for verdict in verdicts:
        ours, theirs = (source.lengths.get(m, {}).get(verdict.item) for m in verdict.models)
        if ours is None or theirs is None or verdict.score is None or verdict.score == 0.5 or ours == theirs:
            continue
        games.append((verdict.item, float((verdict.score > 0.5) == (ours > theirs))))
    return _share(games, how, "no verdict is decided between answers of different lengths") if source.lengths else None


def order_agreement(verdicts: Sequence[Verdict], how: Resampling = USUAL) -> Estimate | None:
    """Of questions judged in both orders: the same winner, or a tie twice. None where none was."""
    found: dict[Question, dict[str, str]] = defaultdict(dict)
    for verdict in verdicts:
        if verdict.order and len(set(verdict.models)) == 2:
            found[_question(verdict)][verdict.order] = winner(verdict)
    games = [(q[0], float(said["ab"] == said["ba"])) for q, said in found.items() if len(said) == 2]
    return _share(games, how, "") if games else None


def self_agreement(verdicts: Sequence[Verdict], how: Resampling = USUAL) -> Estimate | None:
    """Of questions asked again in the same order: the same winner. None where none was."""
    found: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for verdict in sorted(verdicts, key=lambda v: v.repeat):
        found[asked(verdict)].append(winner(verdict))
    games = [
        (key[0], float(np.mean([one == other for one, other in combinations(said, 2)])))
        for key, said in found.items() if len(said) > 1
    ]  # fmt: skip
    return _share(games, how, "") if games else None


def agreements(
    source: Evaluation, how: Resampling = USUAL, reference: str = ""
) -> list[Agreement]:
    """Between each two judges, or each and `reference`, on questions that both decided; and among all."""
    said = {judge: _labels(source, judge) for judge in source.judges}
    rows: list[Agreement] = []
    for one, other in combinations(said, 2):
        if reference and reference not in (one, other):
            continue
        both = [q for q in said[one] if q in said[other]]
        ours, theirs = [said[one][q] for q in both], [said[other][q] for q in both]
        rows.append(Agreement(a=one, b=other, kind="agreement", estimate=observed(ours, theirs, how.level)))
        rows.append(Agreement(a=one, b=other, kind="Cohen's kappa", estimate=cohen(ours, theirs, how)))
    if len(said) > 2:
        rows += _among_all(said, how)
    return rows


def _among_all(said: dict[str, dict[Question, str]], how: Resampling) -> Iterator[Agreement]:
    questions = list(dict.fromkeys(q for labels in said.values() for q in labels))
    table = [[labels.get(q) for labels in said.values()] for q in questions]
    name = ", ".join(said)
    whole = [[label for label in row if label is not None] for row in table if None not in row]
    if whole:
        yield Agreement(a=name, kind="Fleiss' kappa", estimate=fleiss(whole, how))
    yield Agreement(a=name, kind="Krippendorff's alpha", estimate=krippendorff(table, how=how))


def _labels(source: Evaluation, judge: str) -> dict[Question, str]:
    """Who wins each question by all its games: the first of the two models, the second, or a tie.

    First and second as the first verdict on them names them, whoever judged.
    """
    named: dict[Question, tuple[str, ...]] = {}
    shares: dict[Question, list[float]] = defaultdict(list)
    for verdict in source.pairwise:
        question = (verdict.item, frozenset(verdict.models), 0)
        first = named.setdefault(question, verdict.models)[0]
        if verdict.judge == judge and (value := share_of(verdict, first)) is not None:
            shares[question].append(value)
    return {question: LABELS[_decided(values)] for question, values in shares.items()}


def _decided(shares: Sequence[float]) -> float:
    """Who has more of the games."""
    earned = float(np.mean(shares))
    return 0.5 if abs(earned - 0.5) < 1e-9 else float(earned > 0.5)


def winner(verdict: Verdict) -> str:
    """The model's name, or `tie`; of a model against itself the place of the answer."""
    score = verdict.score
    assert score is not None, "known"
    if score == 0.5:
        return "tie"
    if verdict.models[0] == verdict.models[1]:
        return LABELS[1.0] if score > 0.5 else LABELS[0.0]
    return verdict.models[0 if score > 0.5 else 1]


def _question(verdict: Verdict) -> Question:
    return verdict.item, frozenset(verdict.models), verdict.repeat


def _share(games: Sequence[tuple[str, float]], how: Resampling, why: str) -> Estimate:
    """Each prompt's games averaged."""
    if not games:
        return Estimate(value=None, level=how.level, unit="share", why=why)
    values = per_item(games, lambda numbers: float(np.mean(numbers)))
    return rate(np.array(list(values.values())), len(games), how)
