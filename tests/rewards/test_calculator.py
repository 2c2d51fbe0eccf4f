"""The calculator that a policy may call."""

from __future__ import annotations

import pytest

from align.lab.calculator import reply, result


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("12*7", "84"), (" 12 * (3 + 4) ", "84"), ("48/2", "24"), ("1/3", "0.3333333333"), ("-7 + 2", "-5"),
        ("7 // 2", "3"), ("7 % 4", "3"), ("0.5 * 3", "1.5"), ("1/0", "error"), ("2**9", "error"), ("", "error"),
        ("12*", "error"), ("5 (3)", "error"), ("007", "error"), ("__import__", "error"), ("1e9", "error"),
        ("9" * 61, "error"), ("(" * 60, "error"), ("9." + "9" * 50, "10"),
    ],
)  # fmt: skip
def test_results(expression: str, value: str):
    assert result(expression) == value


def test_only_a_call_at_the_end_is_answered():
    assert reply("", "7 pens at 12: <<12*7>>", {}) == "84"
    assert reply("", "<<1+1>>2 and <<2+2>>\n", {}) == "4"
    assert reply("", "<<1+1>>2 pens", {}) is None
    assert reply("", "two", {}) is None
