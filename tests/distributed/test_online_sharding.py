"""Two processes write, are judged and learn as one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from launches import Launch

pytestmark = pytest.mark.processes

PER_PHASE = 4


def rollouts(run: Launch, name: str, phase: int) -> list[dict[str, Any]]:
    path = run.folder / name / "rollouts" / f"{phase:06d}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_first_completions_are_those_of_one_process(launch, alone):
    ours, theirs = rollouts(launch, "ppo", 0), rollouts(alone, "ppo", 0)
    assert len(ours) == len(theirs) == 14 * 3
    for mine, other in zip(ours, theirs, strict=True):
        assert [mine[k] for k in ("number", "place", "tokens", "stop", "rewards")] == [
            other[k] for k in ("number", "place", "tokens", "stop", "rewards")
        ]
        assert mine["logps"] == pytest.approx(other["logps"], abs=1e-5)


def test_the_first_experience_is_learned_as_by_one_process(launch, alone):
    for row, other in zip(launch.rows("ppo")[:PER_PHASE], alone.rows("ppo")[:PER_PHASE], strict=True):
        for key in ("value", "entropy", "ratio"):
            assert row[key] == pytest.approx(other[key], rel=1e-5), key
        assert row["policy"] == pytest.approx(other["policy"], abs=1e-6)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert row["num_tokens"] == other["num_tokens"]


def test_later_experience_earns_the_same_but_for_rounding(launch, alone):
    """A sample may flip where two log-probabilities lie within rounding of a random number."""
    ours, theirs = (run.rows("ppo")[PER_PHASE]["reward"] for run in (launch, alone))
    assert ours == pytest.approx(theirs, abs=0.02)


def test_an_experience_is_resumed_bitwise(launch):
    """From the middle of the second one."""
    whole, resumed = launch.weights("ppo"), launch.weights("ppo_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    keep = [{k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per", "memory"))}
            for name in ("ppo", "ppo_resumed") for row in launch.rows(name)]  # fmt: skip
    assert keep[: len(keep) // 2] == keep[len(keep) // 2 :]
