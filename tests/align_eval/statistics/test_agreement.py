"""Agreement by hand and by brute force."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from align_eval.statistics.agreement import cohen, fleiss, krippendorff, observed


def test_cohen_by_hand():
    # 20 both yes, 15 both no, 5 + 10 apart: seen 0.7; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; (0.7 - 0.5) / 0.5
    ours = ["y"] * 20 + ["n"] * 15 + ["y"] * 5 + ["n"] * 10
    theirs = ["y"] * 20 + ["n"] * 15 + ["n"] * 5 + ["y"] * 10
    found = cohen(ours, theirs)
    assert found.value == pytest.approx(0.4)
    assert found.low is not None
    assert found.low < 0.4 < (found.high or 0)
    assert observed(ours, theirs).value == 0.7


def test_fleiss_of_the_textbook():
    """Fleiss 1971 as it is taught: 10 subjects, 14 raters, 5 categories; kappa 0.210."""
    table = [
        [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
    ]  # fmt: skip
    rows = [[label for label, count in enumerate(row) for _ in range(count)] for row in table]
    assert fleiss(rows).value == pytest.approx(0.210, abs=5e-4)
    with pytest.raises(ValueError, match="same number"):
        fleiss([["a", "b"], ["a", "b", "a"]])


def test_krippendorff_of_the_textbook():
    """Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", C: four observers, twelve units, 0.743 nominal
    and 0.849 interval."""
    a = [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None]
    b = [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3]
    c = [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None]
    d = [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None]
    rows = list(zip(a, b, c, d, strict=True))
    nominal, interval = krippendorff(rows), krippendorff(rows, "interval")
    assert nominal.value == pytest.approx(0.743, abs=5e-4)
    assert interval.value == pytest.approx(0.849, abs=5e-4)
    assert nominal.n == 11  # the last unit has one label


def test_interval_alpha_by_brute_force():
    random = np.random.default_rng(0)
    rows = [list(random.normal(size=3)) for _ in range(6)]
    values = [v for row in rows for v in row]
    seen = sum((x - y) ** 2 / 2 for row in rows for x, y in permutations(row, 2)) / len(values)
    chance = sum((x - y) ** 2 for x, y in permutations(values, 2)) / (len(values) * (len(values) - 1))
    assert krippendorff(rows, "interval").value == pytest.approx(1 - seen / chance)


def test_nothing_to_agree_on_has_no_value():
    found = cohen(["a", "a"], ["a", "a"])
    assert found.value is None
    assert found.why
    assert krippendorff([["a", None]]).value is None
    assert not math.isnan(cohen(["a", "b"] * 20, ["a", "b"] * 20).value or 0.0)
