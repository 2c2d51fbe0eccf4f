"""Rounding by chance is as far from what is right as rounding is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from align.scoring.rounding import ROUNDINGS, TOLERANCE, distance, limit, shaken

HALF = torch.finfo(torch.bfloat16).eps / 2
EVERY = torch.ones(1, 64) > 0


def deep(depth: int) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64) for _ in range(depth)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.LayerNorm(64), nn.GELU())))


def test_a_layer_answers_half_a_unit_away_at_most():
    model, x = nn.Linear(8, 8), torch.randn(50, 8)
    right = model(x).detach()
    with shaken(model, torch.bfloat16):
        moved = (model(x).detach() - right).abs() / right.abs()
    assert 0.9 * HALF < moved.max() <= HALF * (1 + 1e-4)
    assert moved.mean() == pytest.approx(HALF / 2, rel=0.2)
    assert torch.equal(model(x), right)


def test_each_layer_adds_to_it_and_chance_is_the_same_in_every_call():
    x = torch.randn(64).expand(9, 1, -1)

    def found(depth: int) -> float:
        model = deep(depth)
        return limit(model, torch.bfloat16, lambda: model(x), EVERY)

    assert TOLERANCE < found(1) < found(4) < found(16) == found(16)


def test_it_covers_what_the_precision_does_and_little_more():
    model, x = deep(8), torch.randn(1, 64)
    with torch.no_grad():
        right = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            done = distance(model(x).float(), right, EVERY, torch.bfloat16)
            allowed = limit(model, torch.bfloat16, lambda: model(x.expand(9, 1, -1)), EVERY)
    assert done < allowed < 10 * ROUNDINGS * done


@pytest.mark.parametrize("precision", [None, torch.float32, torch.float64])
def test_where_little_is_rounded_nothing_is_run(precision: torch.dtype | None):
    assert limit(nn.Linear(1, 1), precision, lambda: pytest.fail("was run"), EVERY) == TOLERANCE


@pytest.mark.parametrize(("precision", "expected"), [(torch.float32, 9.0), (torch.bfloat16, 1.0)])
def test_of_a_row_that_rounding_may_throw_far_at_one_place_the_median_counts(precision: torch.dtype, expected: float):
    one, mask = torch.zeros(2, 3), torch.tensor([[True, True, True], [True, False, False]])
    other = torch.tensor([[0.5, 9.0, 0.25], [1.0, 100.0, 100.0]])
    assert distance(one, other, mask, precision) == expected


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_number_that_is_none_is_infinitely_far(precision: torch.dtype):
    one = torch.zeros(2, 3)
    one[1, 2] = torch.nan
    assert distance(one, torch.zeros(2, 3), torch.ones(2, 3) > 0, precision) == torch.inf
