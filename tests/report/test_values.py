"""The audit's numbers: error, its noise, and the order of states that can be told apart."""

from __future__ import annotations

import pytest

from align.report.folder import Audited
from align.report.measured.values import Audit


def state(estimate: float, value: float, *, depth: int = 0, step: int = 0, stderr: float = 0.01) -> Audited:
    return Audited(step=step, depth=depth, estimate=estimate, value=value, stderr=stderr)


def test_the_error_is_the_mean_distance():
    audit = Audit([state(0.5, 0.25), state(0.0, 0.25), state(0.3, 0.3, stderr=0.04)])
    assert audit.error == pytest.approx(0.5 / 3)
    assert audit.noise == pytest.approx(0.02)


def test_only_states_of_one_step_that_are_surely_apart_are_put_in_order():
    """Two standard errors of a difference are 2 sqrt(2) 0.01 = 0.028: of the first three, the last two are too near."""
    states = [state(0.1, 0.0), state(0.9, 0.50), state(0.2, 0.52)]
    assert Audit(states).order == (1.0, 2)
    assert Audit([*states, state(0.05, 0.9)]).order == (0.4, 5)  # the new one is above all, and believed to be below
    assert Audit([state(0.9, 0.1), state(0.1, 0.9, depth=1), state(0.1, 0.8, step=5)]).order == (0.0, 0)


def test_equal_beliefs_are_not_the_right_order():
    assert Audit([state(0.5, 0.0), state(0.5, 1.0)]).order == (0.0, 1)
