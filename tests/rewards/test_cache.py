"""Verdicts that are remembered."""

from __future__ import annotations

from typing import Any

from align.rewards.base import Sample
from align.rewards.cache import Cache
from align.rewards.verdicts import RewardFunctions


def sample(text: str, **columns: Any) -> Sample:
    return Sample(prompt="p", completion=text, completion_ids=[len(text)], columns=columns)


def functions_that_count(cache: Cache, *, fails: bool = False) -> tuple[RewardFunctions, list[str]]:
    asked: list[str] = []

    def length(prompts: Any, completions: list[str], **columns: Any) -> list[float]:
        asked.extend(completions)
        if fails:
            raise ValueError("not now")
        return [float(len(text)) for text in completions]

    return RewardFunctions({"length": length}, {"length": 1.0}, mark_errors=fails, caches={"length": cache}), asked


def test_what_comes_again_is_not_judged_again():
    functions, asked = functions_that_count(Cache())
    first = functions([sample("a"), sample("bbb"), sample("a")])
    again = functions([sample("bbb"), sample("cc"), sample("a")])
    assert [j.rewards["length"] for j in first + again] == [1, 3, 1, 3, 2, 1]
    assert asked == ["a", "bbb", "cc"]


def test_other_columns_or_tokens_are_another_sample():
    functions, asked = functions_that_count(Cache())
    functions([sample("a", answer=1), sample("a", answer=2), Sample(prompt="p", completion="a", completion_ids=[9, 9])])
    assert asked == ["a"] * 3


def test_what_could_not_be_judged_is_asked_for_again():
    functions, asked = functions_that_count(Cache(), fails=True)
    assert all(functions([sample("a")])[0].failed for _ in range(2))
    assert len(asked) == 2


def test_the_oldest_are_forgotten():
    functions, asked = functions_that_count(Cache(size=2))
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        functions([sample(text)])
    assert asked == ["a", "bb", "ccc", "bb"]
