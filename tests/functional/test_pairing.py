"""Completions against each other."""

from __future__ import annotations

import torch

from align.functional.pairing import differences, pair_means, partners

GROUPS = torch.tensor([0, 1, 0, 2, 1, 0])
VALUES = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0], dtype=torch.float64)


def test_partners_are_the_others_of_the_prompt():
    found = [row.nonzero().flatten().tolist() for row in partners(GROUPS)]
    assert found == [[2, 5], [4], [0, 5], [], [1], [0, 2]]


def test_differences_are_opposite_and_of_pairs_alone():
    paired = partners(GROUPS)
    found = differences(VALUES, paired)
    assert torch.equal(found, -found.T)
    assert found[0].tolist() == [0, 0, -3, 0, 0, -31]
    assert not found[~paired].any()


def test_what_belongs_to_no_pair_counts_as_nothing():
    spoilt = VALUES * torch.tensor([1, 1, 1, torch.inf, 1, 1], dtype=torch.float64)
    means = pair_means(differences(spoilt, partners(GROUPS)) ** 2, partners(GROUPS))
    assert means.tolist() == [(9 + 961) / 2, 196, (9 + 784) / 2, 0, 196, (961 + 784) / 2]


def test_a_mean_over_completions_is_one_over_pairs_where_groups_are_equal():
    groups = torch.tensor([0, 0, 0, 1, 1, 1])
    paired = partners(groups)
    squares = differences(VALUES, paired) ** 2
    every = squares[paired.triu()]
    torch.testing.assert_close(pair_means(squares, paired).mean(), every.mean())
