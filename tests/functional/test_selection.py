"""Of each group the best against the worst."""

from __future__ import annotations

import torch

from align.functional.selection import best_against_worst, with_worst


def test_the_best_and_the_worst_of_each_group_wherever_its_rows_stand():
    values = torch.tensor([1.0, 5.0, 3.0, 2.0, 5.0, 0.0])
    groups = torch.tensor([0, 2, 0, 0, 2, 2])  # as where a group has been left out
    best, against = best_against_worst(values, groups)
    assert best.tolist() == [False, True, True, False, False, False], "of equals the first"
    assert against.tolist() == [0, 5, 0, 3, 4, 5]
    assert with_worst(best, against).nonzero()[:, 0].tolist() == [0, 1, 2, 5]


def test_equals_make_no_pair():
    best, against = best_against_worst(torch.tensor([2.0, 2.0, 1.0]), torch.tensor([0, 0, 1]))
    assert not best.any()
    assert against.tolist() == [0, 1, 2]
    assert not with_worst(best, against).any()


def test_nobody_is_nobodys_best():
    best, against = best_against_worst(torch.zeros(0), torch.zeros(0, dtype=torch.long))
    assert best.shape == against.shape == (0,)
