from __future__ import annotations

import math

import torch

from align.functional.masked import last_kept, masked_mean, masked_sum

VALUES = torch.tensor([[1.0, math.nan, 3.0], [math.inf, 5.0, -math.inf], [math.nan, math.nan, math.nan]])
MASK = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])


def test_junk_under_the_mask_stays_out_of_sums_means_and_gradients() -> None:
    leaf = VALUES.clone().requires_grad_()
    assert masked_sum(leaf, MASK).tolist() == [4.0, 5.0, 0.0]
    means = masked_mean(leaf, MASK)
    assert means.tolist() == [2.0, 5.0, 0.0]
    means.sum().backward()
    assert leaf.grad is not None
    assert leaf.grad.tolist() == [[0.5, 0.0, 0.5], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_the_last_kept_place_on_either_side_of_the_padding() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    assert last_kept(mask).tolist() == [1, 3, 2, -1]
