"""A reward that compares a prompt's completions is given all of them in one call, and those of nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from align.errors import RunError, UserError
from align.rewards.base import Sample, find_reward
from align.rewards.settings import Function, RewardSection
from align.rewards.verdicts import LATE, make_reward_functions


def group(prompt: str, *texts: str) -> list[Sample]:
    return [Sample(prompt=prompt, completion=text, completion_ids=[1]) for text in texts]


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
def test_a_call_has_the_completions_of_one_prompt(timeout: float, functions_of: Any):
    functions = functions_of("rank", "length", timeout=timeout, num_workers=1)
    assert functions.comparing == ("rank",)
    first, second = functions.compare([group("p", "aaa", "b", "cc"), group("q", "dddd", "e")])
    assert [j.rewards for j in first] == [{"rank": 2.0}, {"rank": 0.0}, {"rank": 1.0}]
    assert [j.rewards for j in second] == [{"rank": 1.0}, {"rank": 0.0}]
    assert [j.rewards for j in functions(group("p", "aaa"))] == [{"length": 3.0}]


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
def test_who_has_nobody_to_be_compared_with_is_not_judged(timeout: float, functions_of: Any):
    ((alone,),) = functions_of("rank", timeout=timeout, num_workers=1).compare([group("p", "aaa")])
    assert alone.rewards == {"rank": None}
    assert not alone.failed


def test_a_call_that_takes_too_long_costs_all_completions_of_its_prompt(functions_of: Any):
    functions = functions_of("rank", timeout=1.0, num_workers=1)
    late, fine = functions.compare([group("p", "a", "hang"), group("q", "bb", "c")])
    assert [j.rewards["rank"] for j in late + fine] == [None, None, 1.0, 0.0]
    assert [j.failed for j in late] == [{"rank": LATE}] * 2


@pytest.mark.parametrize("timeout", [0.0, 20.0], ids=["here", "in a worker"])
def test_an_exception_stops_the_run_or_marks_the_prompt(timeout: float, functions_of: Any):
    groups = [group("p", "a", "bad"), group("q", "bb", "c")]
    with pytest.raises(RunError, match=r"reward rank: KeyError: 'no such word' .*reward_functions.py, line \d+"):
        functions_of("rank", timeout=timeout, num_workers=1).compare(groups)
    lost, fine = functions_of("rank", timeout=timeout, num_workers=1, on_error="mark").compare(groups)
    assert [j.rewards["rank"] for j in lost + fine] == [None, None, 1.0, 0.0]
    assert "no such word" in lost[1].failed["rank"]


def test_what_a_function_compares_is_a_word_that_we_know():
    with pytest.raises(UserError, match="reward_functions:by_row: compares is 'row'; expected prompt"):
        find_reward("reward_functions:by_row", {})


def test_verdicts_of_one_are_remembered_and_not_those_of_many():
    asked = Function(name="reward_functions:rank", cache=True)
    with pytest.raises(UserError, match="rank: cache remembers completions one by one, and this function compares"):
        make_reward_functions(RewardSection(functions=[asked]))
