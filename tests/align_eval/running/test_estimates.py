"""Means over items by hand."""

from __future__ import annotations

import pytest

from align_eval.running.estimates import mean_of, pass_at, ratio_of, share_of


def test_pass_at_k_of_samples():
    """Of three samples one passes: pass@2 = 1 - C(2, 2) / C(3, 2) = 2/3; of the other item none: 0. The mean is 1/3."""
    rows = [("a", 1.0), ("a", 0.0), ("a", 0.0), ("b", 0.0), ("b", 0.0), ("b", 0.0)]
    found = pass_at(rows, 2)
    assert (found.value, found.n, found.clusters) == (pytest.approx(1 / 3), 6, 2)
    assert pass_at(rows, 1).value == pytest.approx(1 / 6)
    assert pass_at(rows, 4).value is None
    assert "2 of 2 items have fewer than 4 answers" in pass_at(rows, 4).why


def test_every_item_weighs_the_same():
    """An item with two samples (1, 0) and one with one (1): (1/2 + 1) / 2, not 2/3."""
    assert share_of([("a", 1.0), ("a", 0.0), ("b", 1.0)]).value == pytest.approx(0.75)
    assert mean_of([("a", 2.0), ("a", 4.0), ("b", 9.0)], "tokens").value == pytest.approx(6.0)


def test_every_instruction_weighs_the_same():
    """One of one, and one of three: 2 of 4."""
    found = ratio_of([("a", 1.0, 1.0), ("b", 1.0, 3.0)])
    assert (found.value, found.n, found.clusters) == (0.5, 4, 2)


def test_nothing_is_not_zero():
    assert share_of([]).value is None
    assert mean_of([], "tokens").value is None
