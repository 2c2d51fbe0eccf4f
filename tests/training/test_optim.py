"""Optimisers by name, learning rates as a function of the step."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from align.errors import UserError
from align.recipe.combinations import SCHEDULES
from align.training.optim import learning_rate, make_optimizer, rate_in_rounds, rate_of_learner
from align.training.settings import OptimSection

PEAK = 0.3


OWN = {"cosine_with_min_lr": {"min_lr_rate": 0.1}, "warmup_stable_decay": {"num_decay_steps": 0.25}}


def rates(kind: str, num_steps: int, **settings: Any) -> list[float]:
    settings.setdefault("lr_scheduler_kwargs", OWN.get(kind, {}))
    section = OptimSection(learning_rate=PEAK, lr_scheduler_type=kind, **settings)
    rate = learning_rate(section, num_steps)
    return [rate(step) for step in range(num_steps)]


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("num_steps", [1, 2, 7, 40])
@pytest.mark.parametrize("warmup", [{}, {"warmup_ratio": 0.1}, {"warmup_steps": 3}])
def test_no_step_is_lost(kind: str, num_steps: int, warmup: dict[str, float]):
    if kind == "constant" and warmup:
        return  # refused by `align check`
    found = rates(kind, num_steps, **warmup)
    assert min(found) > 0, "a step of rate 0"
    assert max(found) <= PEAK * (1 + 1e-9)
    assert rates(kind, num_steps, **warmup) == found


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant_with_warmup"])
def test_warm_up_climbs_evenly_to_the_peak(kind: str):
    found = rates(kind, 20, warmup_steps=5)
    assert found[:5] == pytest.approx([PEAK * k / 5 for k in range(1, 6)])
    assert all(a >= b for a, b in pairwise(found[4:]))


def test_a_policy_that_waits_for_its_critic_has_its_whole_schedule_afterwards():
    section = OptimSection(learning_rate=PEAK, lr_scheduler_type="linear", warmup_steps=2)
    rate, short = rate_of_learner(section, 10), learning_rate(section, 7)
    assert [rate(step, 3) for step in range(3, 10)] == [short(step) for step in range(7)]
    assert [rate(step, 0) for step in range(10)] == rates("linear", 10, warmup_steps=2)


def test_each_round_has_the_whole_schedule_and_may_have_a_rate_of_its_own():
    section = OptimSection(learning_rate=PEAK, lr_scheduler_type="linear", warmup_steps=2)
    rate = rate_in_rounds(section, 5)
    assert [rate(step, 0) for step in range(15)] == rates("linear", 5, warmup_steps=2) * 3
    own = rate_in_rounds(dataclasses.replace(section, learning_rate_of_round=[PEAK, PEAK / 10]), 5)
    found = [own(step, 0) for step in range(10)]
    assert found[:5] == rates("linear", 5, warmup_steps=2)
    assert found[5:] == pytest.approx([r / 10 for r in found[:5]])


def test_shapes_by_hand():
    assert rates("constant", 4) == [PEAK] * 4
    assert rates("linear", 4) == pytest.approx([PEAK * f for f in (1, 3 / 4, 2 / 4, 1 / 4)])
    cosine = [PEAK * (1 + math.cos(math.pi * k / 4)) / 2 for k in range(4)]
    assert rates("cosine", 4) == pytest.approx(cosine)
    # a tenth of 20 steps warms up; 18 steps and the end, which is not one of them, make 19 steps of decay
    late = rates("linear", 20, warmup_ratio=0.1)
    assert late[:3] == pytest.approx([PEAK / 2, PEAK, PEAK * 18 / 19])
    assert late[-1] == pytest.approx(PEAK / 19)


def test_weight_decay_is_for_matrices_alone():
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 2, bias=False))
    module[2].weight.requires_grad_(False)
    before = {n: p.detach().clone() for n, p in module.named_parameters()}
    optimizer = make_optimizer(module, OptimSection(learning_rate=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(module.named_parameters())
    assert torch.allclose(after["0.weight"], before["0.weight"] * (1 - 0.1 * 0.5))
    for name in ("0.bias", "1.weight", "1.bias", "2.weight"):
        assert torch.equal(after[name], before[name]), name


def test_settings_reach_the_optimiser():
    module = nn.Linear(2, 2)
    section = OptimSection(adam_beta1=0.8, adam_beta2=0.95, adam_epsilon=1e-6, learning_rate=0.25)
    for group in make_optimizer(module, section).param_groups:
        assert (group["betas"], group["eps"], group["lr"]) == ((0.8, 0.95), 1e-6, 0.25)
    sgd = make_optimizer(module, OptimSection(optim="SGD", optim_args={"momentum": 0.9, "nesterov": True}))
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.param_groups[0]["nesterov"]
    with pytest.raises(UserError, match=r"no such optimiser: AdmW.*Did you mean AdamW\?"):
        make_optimizer(module, OptimSection(optim="AdmW"))


def test_a_floor_and_a_plateau_are_where_they_are_asked_for():
    floor = rates("cosine_with_min_lr", 200, lr_scheduler_kwargs={"min_lr_rate": 0.1})
    assert min(floor) == pytest.approx(0.1 * PEAK, rel=1e-3)
    assert min(rates("cosine_with_min_lr", 200, lr_scheduler_kwargs={"min_lr": 0.06})) == pytest.approx(0.06, rel=1e-2)
    flat = rates("warmup_stable_decay", 40, warmup_steps=4, lr_scheduler_kwargs={"num_decay_steps": 0.25})
    assert flat[4:30] == pytest.approx([PEAK] * 26)  # 0.25 of 40 steps decay
    assert flat[31] < PEAK
