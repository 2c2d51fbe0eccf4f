"""Rewards that compare see all completions of a prompt, also those that a method has asked for; nothing twice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from online_rig import OnlineRig, online_rig

from align.lab import bandit
from align.methods.base import OnlineMethod
from align.methods.remax import ReMax
from align.methods.rloo import RLOO
from align.rewards.verdicts import RewardFunctions


class Rank:
    """What an arm is worth beside the others of its prompt: the share of completions that are worth less."""

    compares = "prompt"

    def __init__(self) -> None:
        self.asked: list[list[list[int]]] = []

    def __call__(
        self, prompts: list[str], completions: list[str], completion_ids: list[list[int]], question: list[int], **_: Any
    ) -> list[float]:
        assert len(set(question)) == 1
        self.asked.append(completion_ids)
        worth = bandit.reward(prompts, completions, completion_ids, question)
        return [sum(w < mine for w in worth) / len(worth) for mine in worth]


def rig_of(method: OnlineMethod[Any], folder: Path) -> tuple[OnlineRig, Rank]:
    rank, rig = Rank(), online_rig(method, folder)
    functions = RewardFunctions({"rank": rank, "bandit": bandit.reward}, {"rank": 1.0, "bandit": 0.0})
    rig.source.writer = dataclasses.replace(rig.source.writer, reward_functions=functions)
    rig.source.harvester = dataclasses.replace(rig.source.harvester, reward_functions=functions)
    return rig, rank


@pytest.mark.parametrize(("method", "count"), [(RLOO(kl_coef=0.0), 8), (ReMax(kl_coef=0.0), 9)])
def test_all_completions_of_a_prompt_are_compared_once(method: OnlineMethod[Any], count: int, tmp_path: Path):
    rig, rank = rig_of(method, tmp_path)
    portion = rig.source.next(rig.progress)
    assert [len(ids) for ids in rank.asked] == [count] * 8
    assert len({round(r, 6) for r in portion.experience.batch.rewards.tolist()}) > 2
    again, other = rig_of(method, tmp_path)
    restored = again.source.next(again.progress)
    assert not other.asked  # the verdicts stand in the log
    assert restored.experience.batch.rewards.tolist() == portion.experience.batch.rewards.tolist()


def test_where_the_verdicts_were_lost_they_are_asked_for_again(tmp_path: Path):
    rig, rank = rig_of(ReMax(kl_coef=0.0), tmp_path)
    portion = rig.source.next(rig.progress)
    log = tmp_path / "000000.jsonl"
    lines = log.read_text().splitlines(keepends=True)
    assert len(lines) == 2 * 72
    log.write_text("".join(lines[:-10]))  # of the last prompt all nine, and one of the prompt before it
    again, other = rig_of(ReMax(kl_coef=0.0), tmp_path)
    restored = again.source.next(again.progress)
    assert sorted(other.asked) == sorted(rank.asked[-2:])
    assert restored.experience.batch.rewards.tolist() == portion.experience.batch.rewards.tolist()


def test_evaluations_leave_out_what_compares(tmp_path: Path):
    rig, rank = rig_of(RLOO(kl_coef=0.0), tmp_path)
    found = rig.source.evaluate("validation", 0, lambda _: None)
    assert "rewards/bandit" in found.estimates
    assert "rewards/rank" not in found.estimates
    assert not rank.asked
    functions = RewardFunctions({"rank": rank}, {"rank": 1.0})
    rig.source.writer = dataclasses.replace(rig.source.writer, reward_functions=functions)
    assert set(rig.source.evaluate("validation", 0, lambda _: None).estimates) == {"completion_length", "truncated"}
