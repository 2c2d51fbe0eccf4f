"""Leaderboards: known worlds, tied sets, anchors, ties; odd cases end in the right number or a clear message."""

from __future__ import annotations

import time

import numpy as np
import pytest
from judged import both_orders, verdict, world

from align.errors import UserError
from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.leaderboard import BoardSettings, Leaderboard, leaderboard
from align_eval.analysis.ratings import Games, fitted
from align_eval.statistics.resampling import Resampling

FEW = Resampling(num=200)
STRENGTHS = {"best": 1.2, "next": 1.15, "middle": 0.0, "last": -2.0}


def board(verdicts: list[Verdict], **settings: object) -> Leaderboard:
    return leaderboard(Evaluation(verdicts=verdicts), settings=BoardSettings(how=FEW, **settings))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def known() -> list[Verdict]:
    return world(STRENGTHS, 400)


@pytest.mark.parametrize("ties", ["half", "davidson"])
def test_a_known_world(known: list[Verdict], ties: str):
    found = board(known, ties=ties)
    values = [row.rating.value or 0.0 for row in found.rows]
    strengths = np.array(list(STRENGTHS.values()))
    truth = 1000 + 400 / np.log(10) * (strengths - strengths.mean())
    order = sorted(STRENGTHS, key=lambda name: -STRENGTHS[name])
    assert [row.model for row in found.rows][2:] == order[2:]
    assert sorted(values) == pytest.approx(sorted(truth), abs=35)
    assert set(found.best) == {"best", "next"}  # nobody can tell these two apart
    assert found.rows[-1].tied_with == []
    assert [row.rank for row in found.rows] == [1, 2, 3, 4]
    for row in found.rows:
        assert row.rating.low is not None
        assert row.rating.low < (row.rating.value or 0) < (row.rating.high or 0)
        assert row.n == 400 * 3 * 2
        assert row.rating.clusters == 400
    assert len(found.pairs) == 6


@pytest.mark.parametrize(("prompts", "best"), [(1, {"a", "b"}), (5, {"a", "b"}), (6, {"a"})])
def test_who_wins_every_prompt_is_told_apart_from_six_prompts_on(prompts: int, best: set[str]):
    """No resample differs; the sign test says 2 / 2^5 = 0.063 of five prompts, 0.031 of six."""
    found = leaderboard(Evaluation(verdicts=[verdict(f"p{i}", "a", "b", 1.0) for i in range(prompts)]))
    assert set(found.best) == best


def test_equals_are_hardly_ever_told_apart():
    """60 boards of five equal models: in 5 of 100 some two are told apart, so in 3, give or take 1.7."""
    wrong = 0
    for seed in range(60):
        games = Games.of(world(dict.fromkeys("abcde", 0.0), 40, seed))
        found = fitted(games, FEW)
        wrong += any(len(found.tied_with(i)) < 4 for i in range(5))
    assert wrong <= 8


def test_ties_of_davidson_are_estimated():
    """A third of all games tie between equals: nu / (1 + nu) = 1/3."""
    found = board(world({"a": 0.0, "b": 0.0, "c": 0.0}, 300, ties=1 / 3), ties="davidson")
    assert found.nu == pytest.approx(0.5, abs=0.05)
    assert set(found.best) == {"a", "b", "c"}


def test_anchors_have_the_ratings_that_they_are_given(known: list[Verdict]):
    found = {row.model: row.rating for row in board(known, anchors={"middle": 1200.0}).rows}
    assert found["middle"].value == pytest.approx(1200)
    assert found["middle"].low is None
    assert "an anchor" in found["middle"].why
    free = {row.model: row.rating.value or 0 for row in board(known).rows}
    assert (found["best"].value or 0) - 1200 == pytest.approx(free["best"] - free["middle"])
    both = {row.model: row.rating.value or 0 for row in board(known, anchors={"middle": 1200, "last": 1000}).rows}
    assert (both["middle"] + both["last"]) / 2 == pytest.approx(1100)
    with pytest.raises(UserError, match=r"anchor 'middel': no such model.*Did you mean middle"):
        board(known, anchors={"middel": 1200})


def test_names_do_not_matter(known: list[Verdict]):
    other = {"best": "org/x", "next": "b", "middle": "z", "last": "a a"}
    renamed = [
        Verdict(item=v.item, models=tuple(other[m] for m in v.models), judge="J", order=v.order, score=v.score)
        for v in known
    ]
    ours, theirs = board(known).rows, board(renamed).rows
    assert [other[row.model] for row in ours] == [row.model for row in theirs]
    assert [row.rating for row in ours] == [row.rating for row in theirs]


def test_a_seed_gives_the_same_numbers(known: list[Verdict]):
    assert board(known).rows == board(known).rows


def test_an_unbeaten_model_is_named_and_stays_finite():
    said = [v for v in world({"b": 0.0, "c": 0.0}, 30)]
    said += [v for i in range(30) for m in "bc" for v in both_orders(f"i{i}", "a", m, [1.0, 1.0])]
    found = board(said)
    assert found.rows[0].model == "a"
    assert (found.rows[0].rating.value or 0) < 3000
    assert any("a never lost a game or tied one" in w for w in found.warnings)
    with pytest.raises(UserError, match=r"without the prior there are no strengths.*b, c; a"):
        board(said, prior=False)


def test_models_that_never_met_have_no_common_scale():
    said = [*world({"a": 0.0, "b": 0.0}, 5), *world({"c": 0.0, "d": 0.0}, 5)]
    with pytest.raises(UserError, match=r"never compared.*a, b; c, d"):
        board(said)


def test_all_ties():
    found = board([v for i in range(20) for v in both_orders(f"i{i}", "a", "b", [0.5, 0.5])])
    assert [row.rank for row in found.rows] == [1, 1]
    assert [row.rating.value for row in found.rows] == pytest.approx([1000, 1000])
    assert "the same in every resample" in found.rows[0].rating.why
    assert set(found.best) == {"a", "b"}


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ([], "has no verdicts"),
        ([verdict("p", "a", "a", 1.0)], "has no verdicts"),
        ([verdict("p", "a", "b", None)], "on two models or more; of 1 on a, b, 0 have a score"),
        ([verdict("p", "a", "b", 1.0), verdict("p", "a", "b", 1.0, judge="K")], "name one with --judge: J, K"),
    ],
)
def test_what_cannot_be_ranked_is_told(said: list[Verdict], message: str):
    with pytest.raises(UserError, match=message):
        board(said)
    with pytest.raises(UserError, match="no judge 'X'"):
        leaderboard(Evaluation(verdicts=said), "X")


def test_one_prompt_alone_has_no_interval():
    found = board(both_orders("p", "a", "b", [1.0, 1.0]))
    assert found.rows[0].rating.why == "one prompt alone has no interval"
    assert found.rows[0].model == "a"


def test_unequal_coverage_is_told_and_allowed_for():
    """b met only the weak c, and won; a met everyone. Win rates mislead, ratings less."""
    said = [*world({"a": 2.0, "c": 0.0}, 100), *world({"b": 1.0, "c": 0.0}, 100, seed=1)]
    said += [v for v in world({"a": 2.0, "d": 2.0}, 100, seed=2)]
    found = board(said)
    assert any("not every model met every other" in w for w in found.warnings)
    assert {row.model for row in found.rows[:2]} == {"a", "d"}


def test_grades_make_games():
    grades = {"a": [9, 8, None, 7], "b": [5, 8, 4, 6], "c": [1, 2, 3, 4]}
    said = [
        Verdict(item=f"p{i}", models=(m,), judge="G", score=s, why="" if s is not None else "no number")
        for m, row in grades.items() for i, s in enumerate(row)
    ]  # fmt: skip
    found = board(said)
    pair = next(row for row in found.pairs if {row.a, row.b} == {"a", "b"})
    assert (pair.a, pair.wins, pair.ties, pair.losses, pair.missing) == ("a", 2.0, 1.0, 0.0, 1)
    assert [row.model for row in found.rows] == ["a", "b", "c"]
    assert [(f.model, f.count, f.why) for f in found.failures] == [("a", 1, "no number")]


def test_strong_verdicts_count_more_where_they_are_to():
    said = [verdict("p", "a", "b", 1.0, strong=True), verdict("p", "a", "b", 0.0, "ba")]
    said += both_orders("q", "a", "b", [1.0, 0.0])
    plain, strong = board(said), board(said, strong=3.0)
    assert plain.rows[0].rating.value == pytest.approx(1000)
    assert strong.rows[0].rating.value > 1001  # type: ignore[operator]


def test_fifty_thousand_verdicts():
    """20 models, 25,000 prompts, both orders, 1,000 resamples: under 30 s, here of one core."""
    random = np.random.default_rng(0)
    strengths = random.normal(size=20)
    said = []
    for item in range(25_000):
        i, j = random.choice(20, 2, replace=False)
        chance = 1 / (1 + np.exp(strengths[j] - strengths[i]))
        said += both_orders(str(item), f"m{i}", f"m{j}", [float(random.random() < chance) for _ in range(2)])
    begun = time.process_time()
    found = leaderboard(Evaluation(verdicts=said))
    assert time.process_time() - begun < 30
    ranks = [int(row.model[1:]) for row in found.rows]
    assert np.corrcoef(strengths[ranks], np.arange(20))[0, 1] < -0.95
    assert sum(row.n for row in found.rows) == 100_000
