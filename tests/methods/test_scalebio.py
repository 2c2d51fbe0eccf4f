from __future__ import annotations

import dataclasses
import math
from typing import Any

import method_batches as batches
import pytest
import torch
from golden_files import FILES
from golden_levels import SGD, World, quadratic_world, row
from torch import Tensor

from align.functional.mixing import mixture_slope
from align.methods.scalebio import ScaleBiO

GIVEN: dict[str, Any] = FILES["scalebio"]["isotropic"]["inputs"]
RATES = {"policy": 0.02, "twin": 0.02, "sources": 0.05}


def lower(world: World) -> Tensor:
    """(M,): p of the logits."""
    return torch.tensor(world.logits.shares(), dtype=torch.float64)


def moved(world: World, rates: dict[str, float], steps: int) -> list[Tensor]:
    """Policy, twin and logits after so many steps."""
    for _ in range(steps):
        world.step(rates)
    policy, twin = (learner.module.w[0].detach().clone() for learner in world.team.learners.values())
    return [policy, twin, world.logits.logits.detach().clone()]


def test_by_hand() -> None:
    # Rows of source 0 have token means 2 and 4, that of source 1 has 6: 1/4 (2 + 4) / 2 + 3/4 6 = 21/4.
    made = {
        "completion.logps": -torch.tensor([[1.0, 3.0, 9.0], [4.0, 9.0, 9.0], [5.0, 6.0, 7.0]], dtype=torch.float64),
        "completion.mask": torch.tensor([[True, True, False], [True, False, False], [True, True, True]]),
        "sources": torch.tensor([0, 0, 1]),
    }
    method = ScaleBiO(source_names=("a", "b", "c"), source_weights=(0.25, 0.75, 0.5))
    loss = method.of_sources(batches.build(method.needs(), made))
    sums = batches.sums(loss)
    assert {name: (float(total), count) for name, (total, count, _) in sums.items()} == {
        "a": (6.0, 2), "b": (6.0, 1), "c": (0.0, 0),
    }  # fmt: skip
    assert [weight for *_, weight in sums.values()] == [0.25, 0.75, 0.5]
    # The upper level counts tokens: (1 + 3 + 4 + 5 + 6 + 7) / 6.
    assert batches.value(method.loss(batches.build(method.needs(), made))) == pytest.approx(26 / 6, rel=1e-12)


def test_the_slopes_of_the_logits_are_those_of_the_mixture() -> None:
    logits = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64, requires_grad=True)
    values = torch.tensor([0.5, -0.2, 1.5], dtype=torch.float64)
    (wanted,) = torch.autograd.grad((logits.softmax(0) * values).sum(), logits)
    p = logits.detach().softmax(0)
    torch.testing.assert_close(mixture_slope(p, values), wanted, rtol=1e-12, atol=1e-15)
    shifted = mixture_slope((logits.detach() + 7).softmax(0), values + 3)
    torch.testing.assert_close(shifted, wanted, rtol=1e-12, atol=1e-15)
    assert abs(float(mixture_slope(p, values).sum())) < 1e-15


def test_a_source_without_rows_in_the_step_has_no_gap() -> None:
    method = ScaleBiO(alpha=2.0, source_names=("a", "b"), source_weights=(0.5, 0.5))
    # D = (1, 0): g = 2 / 2 (1 - 1/2, 0 - 1/2).
    assert list(method.source_slopes({"sources/a": 3.0, "twin/a": 2.0})) == [0.5, -0.5]


def test_the_first_step_leaves_the_weights_as_they_are() -> None:
    world = quadratic_world(GIVEN, SGD)
    _, slopes = world.step(RATES)
    assert slopes == [0.0, 0.0]
    _, slopes = world.step(RATES)
    assert slopes[0] != 0


def test_all_gradients_are_taken_at_the_old_point() -> None:
    """l_i = |w - a_i|^2 / 2 + c_i: gradients are w - v + alpha (w - sum p a) and, of the twin, alpha (u - sum p a)."""
    world = quadratic_world(GIVEN, SGD)
    a, v = (torch.tensor(GIVEN[name], dtype=torch.float64) for name in ("a", "v"))
    policy, twin, logits = moved(world, RATES, 3)
    centre = lower(world) @ a
    alpha, gap = world.method.alpha, 0.5 * ((policy - a).square().sum(1) - (twin - a).square().sum(1))
    wanted = [
        policy - 0.02 * (policy - v + alpha * (policy - centre)),
        twin - 0.02 * alpha * (twin - centre),
        logits - 0.05 * alpha * mixture_slope(lower(world), gap),
    ]
    for found, expected in zip(moved(world, RATES, 1), wanted, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_without_a_penalty_the_policy_learns_from_the_trusted_rows_alone() -> None:
    world = quadratic_world(GIVEN, SGD, alpha=0.0)
    policy, twin, logits = moved(world, {"policy": 0.5, "twin": 0.5, "sources": 1.0}, 60)
    torch.testing.assert_close(policy, torch.tensor(GIVEN["v"], dtype=torch.float64), rtol=0, atol=1e-12)
    assert twin.tolist() == GIVEN["u0"]
    assert logits.tolist() == [0.0, 0.0]


def test_one_source_has_all_the_weight() -> None:
    given = GIVEN | {name: GIVEN[name][:1] for name in ("A", "a", "c", "lambda0")}
    world = quadratic_world(given, SGD)
    _, _, logits = moved(world, RATES, 5)
    assert world.logits.shares() == (1.0,)
    assert logits.tolist() == [0.0]


def test_constants_and_equal_shifts_of_the_logits_change_nothing() -> None:
    plain = moved(quadratic_world(GIVEN, SGD), RATES, 6)
    higher = moved(quadratic_world(GIVEN | {"c": [5.3, -1.9]}, SGD), RATES, 6)
    shifted = moved(quadratic_world(GIVEN, SGD, start={"lambda": [4.0, 4.0]}), RATES, 6)
    for one, other, third in zip(plain, higher, shifted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(one, third - 4 * (third is shifted[2]), rtol=1e-9, atol=1e-12)


def test_the_penalty_is_a_matter_of_units() -> None:
    """alpha at a rate is 1 at alpha times the rate, where the trusted loss is divided by alpha."""
    one = moved(quadratic_world(GIVEN, SGD), RATES, 8)
    world = quadratic_world(GIVEN, SGD, alpha=1.0)
    upper, *rest = world.method.lessons()

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Divided(ScaleBiO):
        def lessons(self) -> Any:
            first, *others = super().lessons()
            return (dataclasses.replace(first, weight=0.1), *others)

    assert upper.weight == 1
    assert [lesson.weight for lesson in rest] == [1.0, 1.0]
    world.method = Divided(alpha=1.0)
    other = moved(world, {name: 10 * rate for name, rate in RATES.items()}, 8)
    for ours, theirs in zip(one, other, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_rows_of_a_source_count_alike_in_whatever_number() -> None:
    """Three rows of source 1 for one of source 0, each with its source's loss, leave all means as they are."""
    plain, more = quadratic_world(GIVEN, SGD), quadratic_world(GIVEN, SGD)
    more.rows = [row(0, 0), *(row(1, 1) for _ in range(3))]
    for ours, theirs in zip(moved(plain, RATES, 4), moved(more, RATES, 4), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "knob", [{"alpha": -1.0}, {"weights_rate": 0.0}, {"twin_rate": -0.1}, {"trusted_rows": 0}, {"alpha": math.inf}]
)
def test_knobs_have_ranges(knob: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"scalebio.{next(iter(knob))}"):
        dataclasses.replace(ScaleBiO(), **knob)


def test_norms_are_clipped_where_the_penalty_has_put_them() -> None:
    assert [ScaleBiO(alpha=alpha).levels().scale for alpha in (0.0, 0.5, 10.0)] == [1.0, 1.0, 10.0]
