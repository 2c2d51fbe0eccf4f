from __future__ import annotations

import dataclasses
import math
from typing import Any

import method_batches as batches
import pytest
import torch
from torch import Tensor

from align.functional.surrogate import clipped_surrogate
from align.methods.base import Loss
from align.methods.psft import PSFT
from align.methods.sft import SFT
from align.recipe.load import load_recipe
from align.training.controllers import recalling, remembered_of

HOW = ("token_mean", "sequence_mean", "sequence_sum")


def tensors(*, same: bool = False) -> batches.Tensors:
    made = batches.random_tensors(PSFT.needs(), rows=5, width=6)
    if same:
        made["completion.old_logps"] = made["completion.logps"].detach().clone()
    else:  # ratios between 0.4 and 2.4
        apart = made["completion.old_logps"].remainder(1.8) - 0.9
        made["completion.old_logps"] = made["completion.logps"].detach() + apart
    return made


def loss_of(method: PSFT | SFT, made: batches.Tensors) -> Loss:
    known = {n: t for n, t in made.items() if n != "completion.old_logps" or isinstance(method, PSFT)}
    return method.loss(batches.build(method.needs(), known))


def gradient(method: PSFT | SFT, made: batches.Tensors) -> Tensor:
    (found,) = torch.autograd.grad(batches.objective(loss_of(method, made)), made["completion.logps"])
    return found


def ratios(made: batches.Tensors) -> Tensor:
    return (made["completion.logps"].detach() - made["completion.old_logps"]).exp()


def test_by_hand() -> None:
    # Probabilities have gone from 1/4 to 1/2, 1/3 and 1/8: ratios 2, 4/3 and 1/2, bound 3/2, so -(3/2 + 4/3 + 1/2) / 3.
    made = {
        "completion.logps": torch.tensor([[1 / 2, 1 / 3, 1 / 8, 1.0]], dtype=torch.float64).log().requires_grad_(),
        "completion.old_logps": torch.full((1, 4), 1 / 4, dtype=torch.float64).log(),
        "completion.mask": torch.tensor([[True, True, True, False]]),
        "completion.entropies": torch.ones(1, 4, dtype=torch.float64),
        "completion.hits": torch.tensor([[True, False, False, True]]),
    }
    loss = loss_of(PSFT(clip_high=0.5), made)
    assert batches.value(loss) == pytest.approx(-10 / 9, rel=1e-12)
    assert batches.mean_of(loss, "ratio") == pytest.approx(23 / 18, rel=1e-12)
    assert batches.mean_of(loss, "largest_ratio") == pytest.approx(2, rel=1e-12)
    assert batches.mean_of(loss, "clip_fraction") == pytest.approx(1 / 3, rel=1e-12)
    assert batches.mean_of(loss, "nll") == pytest.approx(math.log(2 * 3 * 8) / 3, rel=1e-12)
    assert batches.mean_of(loss, "k1") == pytest.approx(math.log(1 / 2 * 3 / 4 * 2) / 3, rel=1e-12)
    (found,) = torch.autograd.grad(batches.objective(loss), made["completion.logps"])
    torch.testing.assert_close(3 * found, torch.tensor([[0, -4 / 3, -1 / 2, 0]], dtype=torch.float64))


@pytest.mark.parametrize("how", HOW)
def test_the_first_step_on_an_experience_is_one_of_sft(how: str) -> None:
    made = tensors(same=True)
    psft, sft = PSFT(aggregation=how), SFT(aggregation=how)
    torch.testing.assert_close(gradient(psft, made), gradient(sft, made), rtol=1e-12, atol=0)
    assert batches.mean_of(loss_of(psft, made), "clip_fraction") == 0
    if how != "sequence_sum":
        assert batches.value(loss_of(psft, made)) == pytest.approx(-1, rel=1e-12)


def test_without_a_bound_a_token_weighs_its_ratio() -> None:
    made = tensors()
    torch.testing.assert_close(gradient(PSFT(clip_high=1e12), made), ratios(made) * gradient(SFT(), made))


def test_with_no_room_only_what_has_become_less_likely_moves() -> None:
    made = tensors()
    assert torch.equal(gradient(PSFT(clip_high=0.0), made) != 0, made["completion.mask"] & (ratios(made) < 1))


def test_at_the_bound_a_token_still_pulls() -> None:
    at = torch.tensor([1.28], dtype=torch.float64).log().requires_grad_()
    bound = float(at.detach().exp())
    (found,) = torch.autograd.grad(clipped_surrogate(at, torch.ones_like(at), 0.0, bound).sum(), at)
    assert float(found) == pytest.approx(-bound, rel=1e-12)


@pytest.mark.parametrize("low", [0.0, 0.5, 0.9])
def test_the_lower_bound_of_ppo_would_never_act(low: float) -> None:
    gap = torch.linspace(-2, 2, 41, dtype=torch.float64)
    one = torch.ones_like(gap)
    assert torch.equal(clipped_surrogate(gap, one, low, 1.28), clipped_surrogate(gap, one, 0.0, 1.28))


def test_the_share_that_is_clipped_is_of_what_went_up() -> None:
    made = tensors()
    kept = ratios(made)[made["completion.mask"]]
    loss = loss_of(PSFT(), made)
    assert batches.mean_of(loss, "clip_fraction") == pytest.approx(float((kept > 1.28).double().mean()))
    assert 0 < batches.mean_of(loss, "clip_fraction") < float(((kept - 1).abs() > 0.28).double().mean())


def test_the_warm_up_is_sft() -> None:
    made = tensors()
    method = PSFT(warmup_experiences=2)
    batch = batches.build(method.needs(), made)
    for seen in range(4):
        assert torch.equal(gradient(method, made), gradient(SFT() if seen < 2 else PSFT(), made))
        method = recalling(method, remembered_of(method, batch))


def test_far_ratios_are_finite() -> None:
    made = tensors()
    made["completion.old_logps"] = made["completion.logps"].detach() - 1e4
    assert gradient(PSFT(clip_high=1e12), made).isfinite().all()


def test_evaluations_are_compared_by_what_sft_minimises() -> None:
    recipe = load_recipe("psft", ["training.metric_for_best_model=null", "training.num_minibatches=null"])
    assert (recipe.training.metric_for_best_model, recipe.training.greater_is_better) == ("nll", False)
    assert recipe.training.num_minibatches == 8
    assert "training.num_minibatches: 8, psft's default" in recipe.notes
    alone = load_recipe("psft", ["training.num_minibatches=1"])
    assert any("every ratio between them is 1" in note for note in alone.notes)
    assert not any("every ratio" in note for note in load_recipe("kto").notes)  # whose old policy is in no ratio


@pytest.mark.parametrize("knob", [{"clip_high": -0.1}, {"warmup_experiences": -1}])
def test_knobs_have_ranges(knob: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"psft.{next(iter(knob))}"):
        dataclasses.replace(PSFT(), **knob)
