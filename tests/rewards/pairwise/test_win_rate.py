"""Who beats whom adds up, whoever says it; a completion earns how often it beats the others."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden_files import FILES

from align.errors import RunError, UserError
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.rewards.base import Sample, find_reward
from align.rewards.columns import misfit
from align.rewards.learned import Reward as Learned
from align.rewards.pairwise.oracle import from_logits, from_scores, two_answers, win_rates
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import make_reward_functions

CYCLE = ["rock", "paper", "scissors"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("pair_functions", None)


def verdicts(settings: dict[str, Any], *texts: str, **columns: Any) -> np.ndarray:
    ids = [[1] * len(text) for text in texts]
    told = {name: [value] * len(texts) for name, value in columns.items()}
    return find_reward("win_rate", settings).verdicts(["?"] * len(texts), list(texts), ids, **told)


@pytest.mark.parametrize("function", ["cycle", "patient"])
def test_a_function_of_the_users_decides_each_two_once(function: str):
    found = verdicts({"function": f"pair_functions:{function}"}, *CYCLE, "rock")
    wanted = [[0.5, 0.1, 0.9, 0.5], [0.9, 0.5, 0.1, 0.9], [0.1, 0.9, 0.5, 0.1], [0.5, 0.1, 0.9, 0.5]]
    np.testing.assert_allclose(found, wanted)
    assert len(sys.modules["pair_functions"].asked) == 6
    np.testing.assert_allclose(win_rates(found), [0.5, 1.9 / 3, 1.1 / 3, 0.5])


def test_orders_that_do_not_add_up_are_refused_or_averaged():
    with pytest.raises(RunError, match=r"'rock' beats 'paper' with probability 0\.75, and is beaten with 0\.75; both"):
        verdicts({"function": "pair_functions:first"}, *CYCLE)
    found = verdicts({"function": "pair_functions:first", "average_orders": True}, *CYCLE)
    np.testing.assert_array_equal(found, np.full((3, 3), 0.5))


def test_what_is_no_probability_is_refused():
    with pytest.raises(RunError, match=r"returned 1\.5 for 'rock' against 'paper'; expected the probability"):
        verdicts({"function": "pair_functions:sure"}, *CYCLE)


def test_scores_decide_by_a_link():
    found = from_scores([1.0, 3.0, None, 1.0], "logistic", 2.0)
    odds = 1 / (1 + math.exp(-1))
    assert found[1, 0] == pytest.approx(odds)
    assert found[0, 1] == pytest.approx(1 - odds)
    assert found[0, 3] == 0.5
    np.testing.assert_array_equal(np.isnan(win_rates_of(found)), [False, False, True, False])
    hard = from_scores([1.0, 3.0, 1.0], "hard", 1.0)
    np.testing.assert_array_equal(hard, [[0.5, 0, 0.5], [1, 0.5, 1], [0.5, 0, 0.5]])
    wide = from_scores([0.0, 5000.0, -5000.0], "logistic", 1.0)
    np.testing.assert_array_equal(wide + wide.T, np.ones((3, 3)))


def win_rates_of(found: np.ndarray) -> list[float]:
    return [math.nan if rate is None else rate for rate in win_rates(found)]


def test_the_mean_of_win_rates_is_one_half():
    draw = np.random.default_rng(0)
    for size in (2, 5, 16):
        found = from_scores(draw.normal(size=size).tolist(), "logistic", 0.3)
        assert np.mean(win_rates_of(found)) == pytest.approx(0.5)


def test_where_others_wrote_some_the_policy_is_compared_with_them_alone():
    """The cycle's rock and paper, of the policy, against the scissors of another: 0.9 and 0.1; those have no rate."""
    reward = find_reward("win_rate", {"function": "pair_functions:cycle"})
    who = ["policy", "policy", "opponent"]
    found = reward(["?"] * 3, CYCLE, [[1]] * 3, written_by=who)
    np.testing.assert_allclose([found[0], found[1]], [0.9, 0.1])
    assert found[2] is None
    assert reward(["?"] * 3, CYCLE, [[1]] * 3, written_by=["policy"] * 3) == reward(["?"] * 3, CYCLE, [[1]] * 3)
    assert win_rates(np.array([[0.5, np.nan], [np.nan, 0.5]]), [False, True]) == [None, None]


def test_a_column_of_the_data_that_would_say_who_wrote_is_refused():
    reward = find_reward("win_rate", {"function": "pair_functions:cycle"})
    assert "rows.jsonl has a column written_by, by which it is told" in misfit(reward, ["written_by"], "rows.jsonl")
    assert not misfit(find_reward("length", {"target": 3}), ["written_by"], "rows.jsonl")


def test_another_reward_scores_with_its_columns_and_settings():
    found = verdicts({"scores": "pair_functions:vowels"}, "aaa", "a", "skip", weight=2.0)
    assert found[0, 1] == pytest.approx(1 / (1 + math.exp(-4)))
    assert win_rates(found)[2] is None
    longer = verdicts({"scores": "length", "settings": {"target": 3}, "link": "hard"}, "aaa", "a")
    np.testing.assert_array_equal(longer, [[0.5, 1.0], [0.0, 0.5]])


def test_columns_that_the_other_reward_needs_are_looked_for():
    needs = find_reward("win_rate", {"scores": "pair_functions:vowels"})
    assert "its argument weight is no column; rows.jsonl has answer" in misfit(needs, ["answer"], "rows.jsonl")
    assert not misfit(needs, ["weight"], "rows.jsonl")
    named = find_reward("win_rate", {"scores": "contains", "settings": {"column": "words"}})
    assert "needs the column words" in misfit(named, ["answer"], "rows.jsonl")


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pairs") / "model"
    section = ModelSection(model_name_or_path="asset:stories260k")
    tokenizer = load_tokenizer(section, "scalar")
    load_policy(section, tokenizer, "scalar", Path()).save_pretrained(folder)  # its head is drawn, the same each time
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_a_model_that_reads_two_answers_is_asked_in_both_orders(pair_model: str):
    texts = [" a cat.", " it rained.", " a cat."]
    found = verdicts({"model": pair_model, "scale": 2.0}, *texts)
    assert found[0, 1] != 0.5
    assert found[0, 2] == 0.5
    np.testing.assert_allclose(found + found.T, np.ones((3, 3)), rtol=0, atol=1e-15)
    both = [two_answers(texts[0], texts[1]), two_answers(texts[1], texts[0])]
    l_ab, l_ba = Learned(pair_model)(["?", "?"], list(both))
    assert found[0, 1] == pytest.approx(1 / (1 + math.exp(-(l_ab - l_ba) / 2)), abs=1e-6)


def test_a_model_that_likes_the_first_place_says_nothing():
    found = from_logits(["a", "b", "c"], lambda texts: [7.0] * len(texts), 1.0)
    np.testing.assert_array_equal(found, np.full((3, 3), 0.5))


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
def test_in_a_recipe_it_is_a_reward_like_any_other(timeout: float):
    asked = Function(name="win_rate", settings={"function": "pair_functions:cycle"})
    judge = make_reward_functions(RewardSection(functions=[asked], timeout=timeout, num_workers=1))
    group = [Sample(prompt="?", completion=text, completion_ids=[1]) for text in ("rock", "rock", "paper")]
    try:
        (found,) = judge.compare([group])
    finally:
        judge.close()
    assert [j.rewards["win_rate"] for j in found] == pytest.approx([0.3, 0.3, 0.9])


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "found none; expected one of function, model and scores"),
        ({"scores": "length", "function": "a:b"}, "found function, scores; expected one"),
        ({"function": "pair_functions:lost"}, "has no attribute 'lost'"),
        ({"function": "pair_functions:one"}, "too many positional arguments; it is called as f"),
        ({"function": "pair_functions:cycle", "link": "hard"}, "link has no effect beside function"),
        ({"scores": "repetition", "average_orders": True}, "average_orders has no effect beside scores"),
        ({"scores": "repetition", "link": "soft"}, "link 'soft' is none of logistic, hard"),
        ({"scores": "repetition", "scale": 0.0}, "scale 0.0 must be above 0"),
        ({"scores": "lenth"}, "no such reward: lenth"),
        ({"scores": "win_rate", "settings": {"scores": "repetition"}}, "compares completions itself"),
    ],
)
def test_settings_that_make_no_sense_are_told(settings: dict[str, Any], told: str):
    with pytest.raises(UserError, match=told):
        find_reward("win_rate", settings)


def test_two_orders_of_logits_become_the_golden_probabilities():
    case = next(c for c in FILES["reward-modeling"]["cases"] if c["name"] == "pairwise_model")
    both = zip(case["inputs"]["logit_ab"], case["inputs"]["logit_ba"], strict=True)
    for (l_ab, l_ba), wanted in zip(both, case["expected"]["prob_logit_average"], strict=True):
        found = from_logits(["a", "b"], lambda texts, said=(l_ab, l_ba): said, 2.0)
        assert found[0, 1] == pytest.approx(wanted, rel=1e-9)
