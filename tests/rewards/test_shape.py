"""What is done to rewards, in the order written."""

from __future__ import annotations

import pytest
import torch

from align.rewards.shape import Clip, Ends, MissingEos, Overlong, Scale, Whiten, piece, shaped

REWARDS = torch.tensor([2.0, -3.0, 1.0, 0.0])
ENDS = Ends(finished=torch.tensor([True, False, True, False]), lengths=torch.tensor([10, 90, 95, 100]))


def test_the_order_is_the_recipes():
    one = shaped(REWARDS, ENDS, (Scale(by=2.0), Clip(low=-3.0, high=3.0)))
    other = shaped(REWARDS, ENDS, (Clip(low=-3.0, high=3.0), Scale(by=2.0)))
    assert one.tolist() == [3, -3, 2, 0]
    assert other.tolist() == [4, -6, 2, 0]


def test_a_missing_end():
    assert shaped(REWARDS, ENDS, (MissingEos(replace=-1.0),)).tolist() == [2, -1, 1, -1]
    assert shaped(REWARDS, ENDS, (MissingEos(subtract=1.0),)).tolist() == [2, -4, 1, -1]


def test_whitening_keeps_the_mean_unless_told():
    white = Whiten()(REWARDS, ENDS)
    assert white.mean().item() == pytest.approx(0.0, abs=1e-6)  # theirs is 0
    shifted = Whiten()(REWARDS + 5, ENDS)
    assert shifted.mean().item() == pytest.approx(5.0, abs=1e-5)
    assert shifted.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    assert Whiten(shift_mean=True)(REWARDS + 5, ENDS).mean().item() == pytest.approx(0.0, abs=1e-5)


def test_overlong_is_continuous_at_both_knots():
    ends = Ends(finished=torch.ones(5, dtype=torch.bool), lengths=torch.tensor([80, 81, 90, 100, 200]))
    found = Overlong(max_length=100, cache=20)(torch.zeros(5), ends)
    assert found.tolist() == pytest.approx([0, -0.05, -0.5, -1, -1])


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ({"clips": {}}, "no such piece: clips; there are missing_eos, clip"),
        ({"clip": {"low": 1, "high": 1}}, "clip: low 1.0 is not below high 1.0"),
        ({"clip": {"low": 1}}, "clip: .*high"),
        ({"clip": {"lo": 1}}, "clip: no such key: lo; it has low, high"),
        ({"clip": {"low": "a", "high": 1}}, "clip: low must be a number"),
        ({"clip": 5}, "clip: expected its settings"),
        ({"missing_eos": {}}, "missing_eos: takes one of replace and subtract"),
        ({"missing_eos": {"replace": 1, "subtract": 1}}, "missing_eos: takes one"),
        ({"overlong": {"max_length": 5, "cache": 9}}, "overlong: cache 9 is not between"),
        ({}, "expected one of"),
    ],
)
def test_a_piece_that_is_wrong_is_told(written, told):
    with pytest.raises(ValueError, match=told):
        piece(written)
