"""Warnings while a policy writes: each on an experience that deserves it, once, and none on a good one."""

from __future__ import annotations

import pytest

from align.monitors.alarms import LONG, Alarms

GOOD = {"reward": 0.5, "kl": 0.3, "entropy": 1.2, "ratio": 1.0, "truncated": 0.1, "equal_groups": 0.4}


def told(*rows: dict[str, float]) -> list[str]:
    alarms = Alarms()
    return [sentence for row in rows for sentence in alarms.look(GOOD | row)]


def test_a_good_run_is_left_in_peace():
    assert told(*[{"kl": (-1) ** i * 0.1} for i in range(4 * LONG)]) == []


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"equal_groups": 1.0}, "all completions of every prompt earned the same"),
        ({"truncated": 0.75}, "75 % of the completions were cut"),
        ({"ratio": 1.02}, "pi / pi_old is 1.020 before anything was learned"),
        ({"not_judged": 0.34}, "34 % of the completions were judged by no reward function"),
        ({"ratio": 0.5}, "pi / pi_old is 0.500"),
        ({"sampler_gap": 0.84}, "log-probabilities are 0.84 nats a token away from the trainer's"),
        ({"sampler_gap": float("inf")}, "log-probabilities are inf nats a token away"),
        ({"steps_per_completion": 1.0}, "every completion is one step: rollout.steps finds nothing to divide"),
    ],
)
def test_a_fault_is_told_once(row: dict[str, float], words: str):
    (sentence,) = told({}, row, row, {}, row)
    assert words in sentence


def test_what_bf16_rounds_is_no_alarm():
    """0.015 nats a token were measured between a cached and a whole pass, under autocast and with bf16 weights."""
    assert told({"sampler_gap": 0.03}) == []


def test_a_kl_below_zero_for_long_is_told():
    assert told(*[{"kl": -0.1}] * (LONG - 1), {}, *[{"kl": -0.1}] * (LONG - 1)) == []
    (sentence,) = told(*[{"kl": -0.1}] * 3 * LONG)
    assert f"negative for {LONG} experiences" in sentence


def test_an_entropy_that_collapses_is_told():
    (sentence,) = told({}, {"entropy": 0.2}, {"entropy": 0.11}, {"entropy": 0.1})
    assert "collapsed from 1.2 to 0.11 nats" in sentence


def test_only_the_first_step_of_an_experience_is_looked_at():
    later = {k: v for k, v in GOOD.items() if k != "reward"} | {"ratio": 3.0}
    assert Alarms().look(later) == []
