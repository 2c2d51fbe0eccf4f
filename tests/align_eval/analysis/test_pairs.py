"""Two models on prompts, by hand: orders, repeats, ties, strong verdicts, what is missing, noise, length."""

from __future__ import annotations

import numpy as np
import pytest
from judged import both_orders, verdict

from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import flagged, missing_verdicts, one_order, record
from align_eval.analysis.judges import (
    agreements,
    first_wins,
    judge_rows,
    longer_wins,
    order_agreement,
    self_agreement,
)
from align_eval.analysis.pairs import PairSettings, noise_floor, pairs
from align_eval.records import Answer, Item
from align_eval.results.families import adjusted
from align_eval.statistics.resampling import USUAL, Resampling

FEW = PairSettings(how=Resampling(num=100))


def test_both_orders_of_a_prompt_are_one_unit():
    """p: won twice; q: won and lost, a half; r: a tie and a loss, a quarter; mean 1.75 / 3."""
    said = [
        *both_orders("p", "a", "b", [1.0, 1.0]), *both_orders("q", "a", "b", [1.0, 0.0]),
        *both_orders("r", "a", "b", [0.5, 0.0]),
    ]  # fmt: skip
    found = record(said, "a", "b")
    assert list(found.values) == [1.0, 0.5, 0.25]
    assert (found.won.sum(), found.tied.sum(), found.lost.sum()) == (1.5, 0.5, 1.0)
    rate = found.win_rate(USUAL)
    assert rate.value == pytest.approx(1.75 / 3)
    assert (rate.n, rate.clusters) == (6, 3)
    assert record(said, "b", "a").win_rate(USUAL).value == pytest.approx(1.25 / 3)


def test_a_prompt_weighs_the_same_however_often_it_was_judged():
    said = [verdict("p", "a", "b", 0.0), *(verdict("q", "a", "b", 1.0, repeat=k) for k in range(9))]
    assert record(said, "a", "b").win_rate(USUAL).value == 0.5


def test_either_name_may_stand_first():
    said = [verdict("p", "a", "b", 1.0), verdict("q", "b", "a", 0.0)]
    assert list(record(said, "a", "b").values) == [1.0, 1.0]


def test_a_strong_verdict_counts_as_often_as_it_is_told_to():
    said = [verdict("p", "a", "b", 1.0, strong=True), verdict("p", "a", "b", 0.0, "ba")]
    assert record(said, "a", "b").values[0] == 0.5
    assert record(said, "a", "b", strong=3).values[0] == 0.75  # as Arena-Hard counts


def test_missing_is_counted_and_never_a_tie():
    said = [*both_orders("p", "a", "b", [1.0, None]), *both_orders("q", "a", "b", [None, None])]
    found = record(said, "a", "b")
    assert found.items == ("p",)
    assert found.values[0] == 1.0
    assert found.missing == 3
    (failure,) = missing_verdicts(said)
    assert (failure.count, failure.judge, failure.why, failure.model) == (3, "J", "unreadable", "a against b")
    assert list(one_order(said)) == [
        "judge J: 1 of 1 pairs of answers were judged in one order only; a liking for the first answer does not cancel "
        "there"
    ]


def test_flags_of_verdicts_are_counted():
    flags = {"flags": ["contradicts its explanation"]}
    said = [verdict("p", "a", "b", 1.0, columns=flags), verdict("q", "a", "b", 1.0)]
    assert list(flagged(said)) == ["judge J: 1 of 2 verdicts: contradicts its explanation"]


def test_tests_and_their_adjustment_are_over_prompts():
    said = [v for i in range(10) for v in both_orders(f"p{i}", "a", "b", [1.0, 1.0])]
    (row,), _ = pairs(Evaluation(verdicts=said), said, "a", "b", FEW)
    assert row.tests["sign"] == pytest.approx(2 / 1024)  # ten prompts, not twenty games
    assert row.detectable is None  # all are alike
    low, high = adjusted([row, row])
    assert low.adjusted == high.adjusted
    assert low.adjusted["holm"] == pytest.approx(2 * (row.tests["permutation"] or 0))


def test_categories_are_rows_of_their_own_and_another_family():
    items = [Item(id=f"p{i}", prompt="", category="xy"[i % 2]) for i in range(8)]
    said = [v for i in range(8) for v in both_orders(f"p{i}", "a", "b", [1.0 * (i % 2), 1.0 * (i % 2)])]
    rows, _ = pairs(Evaluation(items=items, verdicts=said), said, "a", "b", FEW)
    assert [(r.category, r.win_rate.value) for r in rows] == [("", 0.5), ("x", 0.0), ("y", 1.0)]
    told = adjusted(rows)
    assert told[0].adjusted["holm"] == told[0].tests["permutation"]
    assert told[1].adjusted["holm"] == pytest.approx(2 * (told[1].tests["permutation"] or 0))


def test_noise_of_a_judge_by_hand():
    """Of four prompts two were judged twice: 1 and 0 (variance 1/2), 1 and 1 (0). One judging's variance 1/4, of a mean
    of four prompts 1/16; of the difference of two such 1/8."""
    said = [
        verdict("p", "a", "b", 1.0), verdict("p", "a", "b", 0.0, repeat=1), verdict("q", "a", "b", 1.0),
        verdict("q", "a", "b", 1.0, repeat=1), verdict("r", "a", "b", 1.0), verdict("s", "a", "b", 0.0),
    ]  # fmt: skip
    found = noise_floor(said, "a", USUAL)
    assert found is not None
    assert found.value == pytest.approx(1.959964 * np.sqrt(1 / 8))
    assert noise_floor(said[4:], "a", USUAL) is None
    steady = noise_floor(said[2:4], "a", USUAL)
    assert steady is not None
    assert (steady.value, steady.why) == (0.0, "the judge said the same each time")


def test_noise_is_what_two_judgings_differ_by():
    """300 prompts of a judge that tosses coins: half the differences' 95 % range, 1.96 sqrt(2 / 4 / 300) = 0.080."""
    random = np.random.default_rng(0)
    coins = (random.random((300, 2)) < 0.5).astype(float)
    said = [verdict(f"p{i}", "a", "b", coins[i, k], repeat=k) for i in range(300) for k in range(2)]
    found = noise_floor(said, "a", USUAL)
    assert found is not None
    assert found.value == pytest.approx(0.080, abs=0.005)


def test_positions_and_orders():
    """p: always the first; q: a in both orders; r: a tie and then a. First: p 1, q 1/2, r 0 of one decided."""
    said = [
        *both_orders("p", "a", "b", [1.0, 0.0]), *both_orders("q", "a", "b", [1.0, 1.0]),
        *both_orders("r", "a", "b", [0.5, 1.0]),
    ]  # fmt: skip
    first, agree = first_wins(said), order_agreement(said)
    assert first.value == pytest.approx((1 + 0.5 + 0) / 3)
    assert first.n == 5
    assert agree is not None
    assert (agree.value, agree.n) == (pytest.approx(1 / 3), 3)
    assert order_agreement(said[:1]) is None
    assert first_wins([verdict("p", "a", "b", 0.5)]).value is None


def test_a_model_against_itself_shows_the_judge_alone():
    said = both_orders("p", "a", "a", [1.0, 1.0])
    source = Evaluation(verdicts=said)
    assert source.pairwise == []
    (row,) = judge_rows(source)
    assert row.n == 2
    assert row.first_wins is not None
    assert row.first_wins.value == 0.5


def test_judged_again():
    said = [verdict("p", "a", "b", s, repeat=k) for k, s in enumerate((1.0, 1.0, 0.0))]
    found = self_agreement(said)
    assert found is not None
    assert found.value == pytest.approx(1 / 3)  # of three pairs one agrees


def test_longer_answers():
    answers = [Answer(item=i, model=m, text="x" * n) for i, m, n in
               [("p", "a", 5), ("p", "b", 3), ("q", "a", 1), ("q", "b", 3), ("r", "a", 2), ("r", "b", 2)]]  # fmt: skip
    said = [verdict("p", "a", "b", 1.0), verdict("q", "a", "b", 1.0), verdict("r", "a", "b", 1.0)]
    found = longer_wins(Evaluation(answers=answers, verdicts=said), said)
    assert found is not None
    assert (found.value, found.n) == (0.5, 2)  # equal lengths do not count
    assert longer_wins(Evaluation(verdicts=said), said) is None


def test_agreement_of_judges_is_about_questions_that_both_decided():
    said: list[Verdict] = []
    for i, (one, two) in enumerate([(1.0, 1.0), (1.0, 0.0), (0.5, 0.5), (0.0, None)]):
        other = None if two is None else 1 - two
        said += [verdict(f"p{i}", "a", "b", one), verdict(f"p{i}", "b", "a", other, judge="K")]
    rows = {row.kind: row.estimate for row in agreements(Evaluation(verdicts=said))}
    assert rows["agreement"].value == pytest.approx(2 / 3)  # though K names the models the other way round
    assert rows["agreement"].n == 3
    assert set(rows) == {"agreement", "Cohen's kappa"}


def test_length_control_is_joined_by_item():
    random = np.random.default_rng(0)
    said, answers = [], []
    for i in range(200):
        long = random.random() < 0.9
        answers += [Answer(item=f"p{i}", model="a", text="x" * (900 if long else 100))]
        answers += [Answer(item=f"p{i}", model="b", text="x" * 500)] if i < 195 else []
        said += both_orders(f"p{i}", "a", "b", [float(long)] * 2)
    (row,), warnings = pairs(Evaluation(answers=answers, verdicts=said), said, "a", "b", FEW)
    assert row.lc_win_rate is not None
    assert row.win_rate.value is not None
    assert row.win_rate.value > 0.8
    assert row.lc_win_rate.value == pytest.approx(0.5, abs=0.15)  # length decides everything
    assert row.lc_win_rate.n == 195
    assert any("5 prompts without both answers" in w for w in warnings)
    assert any("length decided much of it" in w for w in warnings)
