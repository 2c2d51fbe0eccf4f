"""Standard errors of held-out metrics: against closed forms and a bootstrap."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from align.training.evaluate import ratio


def test_the_mean_of_rows_has_its_textbook_error():
    values = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    found = ratio(values, torch.ones(6, dtype=torch.float64))
    # mean 4/6; sample variance (4 * (1/3)^2 + 2 * (2/3)^2) / 5 = 4/15; error sqrt(4/15/6)
    assert (found.value, found.stderr, found.n) == pytest.approx((4 / 6, math.sqrt(4 / 90), 6))


def test_the_error_of_a_mean_over_tokens_is_that_of_resampled_rows():
    """Tokens of a row hang together, so rows are what chance draws. Bootstrap: 4000 samples with replacement."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 60, 150).astype(float)
    level = draw.normal(2.0, 0.5, 150) + 0.01 * sizes  # longer rows have larger values
    sums = level * sizes + draw.normal(0, 1, 150) * np.sqrt(sizes)
    found = ratio(torch.tensor(sums), torch.tensor(sizes))
    assert found.value == pytest.approx(sums.sum() / sizes.sum())
    picks = draw.integers(0, 150, (4000, 150))
    resampled = sums[picks].sum(1) / sizes[picks].sum(1)
    assert found.stderr == pytest.approx(resampled.std(), rel=0.08)
    naive = 1 / math.sqrt(sizes.sum())  # as if tokens were independent: an error three times too small
    assert found.stderr > 2 * naive


def test_rows_without_a_kept_token_count_for_nothing():
    sums, sizes = torch.tensor([3.0, 0.0, 5.0], dtype=torch.float64), torch.tensor([2.0, 0.0, 2.0], dtype=torch.float64)
    found = ratio(sums, sizes)
    assert found == ratio(sums[[0, 2]], sizes[[0, 2]])
    assert (found.value, found.n) == (2.0, 2)
    empty = ratio(torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64))
    assert (empty.value, empty.stderr, empty.n) == (0.0, 0.0, 0)
