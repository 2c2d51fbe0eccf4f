"""Accelerated preference optimisation: pairs of a prompt, its three inner losses, and what the jump adds up to."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import method_batches as batches
import pytest
import torch
from rollout_batches import gradient, random_rollouts
from torch import Tensor

from align.errors import UserError
from align.functional.selection import best_against_worst
from align.methods.accelerated_po import AcceleratedPO
from align.methods.base import find_method

INNER = ("dpo", "ipo", "sppo")


def pair(won: float, lost: float) -> Any:
    """Two completions of one prompt, the second one better, of two tokens each, with these log-ratios."""
    method, mask = AcceleratedPO(), torch.ones(2, 2, dtype=torch.bool)
    old = torch.full((2, 2), -1.0, dtype=torch.float64)
    ratios = torch.tensor([[lost, 0.0], [0.0, won]], dtype=torch.float64)
    zeros = torch.zeros(2, dtype=torch.float64)
    made = {f"completion.{name}": old for name in ("old_logps", "sampler_logps", "entropies")}
    made |= {"completion.mask": mask, "completion.logps": (old + ratios).requires_grad_()}
    made |= {"rewards": torch.tensor([0.0, 1.0]).double(), "earned": zeros, "groups": zeros.long()}
    return batches.build(method.needs(), made | {"auxiliary": zeros > 0, "advantages": torch.zeros(2, 2).double()})


def test_by_hand():
    # u_w = 3, u_l = -1, h = 4
    batch = pair(3.0, -1.0)
    value = {inner: batches.value(AcceleratedPO(inner=inner, beta=0.25).loss(batch)) for inner in INNER}  # type: ignore[arg-type]
    assert value["dpo"] == pytest.approx(math.log1p(math.exp(-1)))  # beta h = 1
    assert value["ipo"] == pytest.approx(4.0)  # (4 - 1 / 0.5)^2
    assert value["sppo"] == pytest.approx(1.0)  # ((3 - 2)^2 + (-1 + 2)^2) / 2
    loss = AcceleratedPO(beta=0.25).loss(batch)
    told = {name: batches.mean_of(loss, name) for name in ("accuracy", "margin", "chosen_rewards", "rejected_rewards")}
    assert told == {"accuracy": 1.0, "margin": 1.0, "chosen_rewards": 0.75, "rejected_rewards": -0.25}


@pytest.mark.parametrize("inner", INNER)
def test_it_is_the_method_over_pairs_with_the_policy_that_wrote_as_the_reference(inner: Any):
    """The same numbers and gradients as `dpo` and `ipo` (of sums); of `sppo` those of its squares."""
    ours = AcceleratedPO(inner=inner, beta=0.3)
    batch = ours.advantages(random_rollouts(ours))
    best, against = best_against_worst(batch.rewards, batch.groups)
    tensors: batches.Tensors = {}
    for member, rows in (("chosen", best.nonzero()[:, 0]), ("rejected", against[best])):
        written = batch.completion
        tensors[f"{member}.logps"] = written.logps[rows].detach().requires_grad_()
        tensors[f"{member}.ref_logps"], tensors[f"{member}.mask"] = written.old_logps[rows], written.mask[rows]
    if inner != "sppo":
        theirs = find_method(inner)(beta=0.3, **({"aggregation": "sum"} if inner == "ipo" else {}))
        total = batches.objective(theirs.loss(batches.build(theirs.needs(), tensors)))
    else:
        moved = [((tensors[f"{m}.logps"] - tensors[f"{m}.ref_logps"]) * tensors[f"{m}.mask"]).sum(-1)
                 for m in ("chosen", "rejected")]  # fmt: skip
        total = ((moved[0] - 1 / 0.6) ** 2 + (moved[1] + 1 / 0.6) ** 2).mean() / 2
    total.backward()
    assert batches.value(ours.loss(batch)) == pytest.approx(float(total.detach()), rel=1e-12)
    found = gradient(ours, batch)
    torch.testing.assert_close(found[best], tensors["chosen.logps"].grad)
    torch.testing.assert_close(found[against[best]], tensors["rejected.logps"].grad)
    others = ~best
    others[against[best]] = False
    assert others.any()
    assert not found[others].any()


def test_pairs_of_an_experience():
    """Of equals the first; nothing of a prompt whose completions earned the same; the middle ones are left out."""
    method = AcceleratedPO()
    rewards = torch.tensor([1.0, 3.0, 3.0, 0.0] + [2.0] * 4 + [5.0, -1.0, -1.0, 5.0]).double()
    batch = random_rollouts(method, rewards=rewards)
    assert method.keep(batch).nonzero()[:, 0].tolist() == [1, 3, 8, 9]
    told = method.advantages(batch).advantages[:, 0].tolist()
    assert told == [0.0, 0.5, 0.0, -0.5] + [0.0] * 4 + [0.5, -0.5, 0.0, 0.0]
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    assert method.keep(batch.select(shuffled)).sum() == 4
    assert batches.sums(method.loss(batch))["loss"][1] == 2, "a mean over pairs"


def test_a_completion_without_its_rival_teaches_nothing():
    method = AcceleratedPO()
    batch = random_rollouts(method)
    alone = batch.select(torch.tensor([0, 4, 8]))
    assert not gradient_of_sum(method, alone).any()
    assert not method.keep(batch.select(torch.tensor([], dtype=torch.long))).any(), "a rank may have no rows"


def gradient_of_sum(method: AcceleratedPO, batch: Any) -> Tensor:
    total = batches.sums(method.loss(batch))["loss"][0]
    return torch.autograd.grad(total, batch.completion.logps)[0]


def test_each_round_has_its_beta():
    method = AcceleratedPO(beta=(0.1, 1.0))
    batch = random_rollouts(method)
    later = dataclasses.replace(method, **method.controllers(batch))
    assert (method.num_rounds, later.num_rounds) == (0, 1)
    for now, beta in ((method, 0.1), (later, 1.0)):
        assert batches.value(now.loss(batch)) == batches.value(AcceleratedPO(beta=beta).loss(batch))
        assert batches.mean_of(now.loss(batch), "beta") == pytest.approx(beta)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.6])
def test_rewards_weigh_more_the_earlier_they_were_learned_from(alpha: float):
    """Theorem 4.1: log hat_{t+1} = log pi_0 + 1 / beta sum_i (1 - alpha^(t+1-i)) / (1 - alpha) r_i, in logits."""
    draw = torch.Generator().manual_seed(0)
    rewards = torch.randn(6, 4, generator=draw, dtype=torch.float64)  # a round, an action
    hat = before = torch.zeros(4, dtype=torch.float64)
    for t, reward in enumerate(rewards):
        start = hat + alpha * (hat - before)
        before, hat = hat, start + reward / 0.5
        shares = torch.tensor([(1 - alpha ** (t + 1 - i)) / (1 - alpha) for i in range(t + 1)], dtype=torch.float64)
        torch.testing.assert_close(hat, (shares[:, None] * rewards[: t + 1]).sum(0) / 0.5)


@pytest.mark.parametrize(
    ("knob", "value"), [("extrapolation_alpha", 1.0), ("extrapolation_alpha", -0.1), ("beta", 0.0)]
)
def test_jumps_without_a_bound_are_refused(knob: str, value: float):
    with pytest.raises(ValueError, match=rf"accelerated_po\.{knob} is {value}"):
        AcceleratedPO(**{knob: value})
    with pytest.raises(ValueError, match=r"accelerated_po\.beta"):
        AcceleratedPO(beta=())


@pytest.mark.parametrize("name", ["apo", "apo_zero", "apo_down"])
def test_the_acronym_names_three_methods_and_takes_none(name: str):
    with pytest.raises(UserError, match=f"{name}: APO .*2410.06293.*2408.06266.*2512.22953"):
        find_method(name)
