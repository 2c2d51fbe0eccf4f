"""Moves of weights in one process: what they are by hand, and what undoes them."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from bench_of_steps import alone, random_groups, rig
from torch import nn

from align.methods.sft import SFT
from align.needs import BEGIN_AGAIN, Move, Pull
from align.training import moves
from align.training.slopes import Slope, pull_towards, pulled, slopes
from align.training.step import Trainee
from align.training.team import Team


def two() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.Linear(3, 2), nn.Linear(3, 2)


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in module.named_parameters()}


def test_a_copy_is_no_alias():
    one, other = two()
    moves.copy(one, other, alone())
    assert all(torch.equal(p, weights(other)[n]) for n, p in weights(one).items())
    with torch.no_grad():
        other.weight.zero_()
    assert one.weight.abs().sum() > 0


def test_some_weights_alone():
    one, other = two()
    before = weights(one)
    moves.copy(one, other, alone(), {"bias"})
    assert torch.equal(one.bias, other.bias)
    assert torch.equal(one.weight, before["weight"])


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
def test_an_average_is_between(rate: float):
    one, other = two()
    before = weights(one)
    moves.average(one, other, alone(), rate)
    torch.testing.assert_close(one.weight, (1 - rate) * before["weight"] + rate * other.weight)


def test_an_average_of_equals_stays():
    one, other = two()
    moves.copy(one, other, alone())
    moves.average(one, other, alone(), 0.3)
    assert torch.equal(one.weight, other.weight)


def test_extrapolation_goes_on_from_solution_to_solution():
    """w + alpha (w - before), whose next difference begins at w and not where it has led to."""
    one, _ = two()
    first = moves.hat(one, alone())
    with torch.no_grad():
        one.weight.add_(1.0)
    second = moves.extrapolate(one, alone(), first, 0.5)
    torch.testing.assert_close(second["weight"], first["weight"] + 1.0)
    torch.testing.assert_close(one.weight.detach(), first["weight"] + 1.5)
    with torch.no_grad():
        one.weight.add_(1.0)
    moves.extrapolate(one, alone(), second, 0.5)
    torch.testing.assert_close(one.weight.detach(), first["weight"] + 2.5 + 0.5 * 1.5)


@pytest.mark.parametrize(("alpha", "shift"), [(0.0, 1.0), (0.5, 0.0)])
def test_extrapolation_without_alpha_or_without_a_difference_is_the_identity(alpha: float, shift: float):
    one, _ = two()
    before = moves.hat(one, alone())
    with torch.no_grad():
        one.weight.add_(shift)
    was = weights(one)
    moves.extrapolate(one, alone(), before, alpha)
    assert all(torch.equal(p, was[n]) for n, p in weights(one).items())


def test_extrapolation_of_low_precision_rounds_once():
    """In bfloat16 a third of a difference of one unit in the last place would be lost at once."""
    one = nn.Linear(1, 1, bias=False).bfloat16()
    with torch.no_grad():
        one.weight.fill_(1.0)
    before = moves.hat(one, alone())
    with torch.no_grad():
        one.weight.fill_(1.0078125)  # the next bfloat16
    assert before["weight"].dtype == torch.float32
    moves.extrapolate(one, alone(), before, 0.6)
    assert one.weight.item() == 1.015625  # 1.0125, rounded


def test_factors_of_adapters_are_refused():
    with pytest.raises(AssertionError, match="one by one"):
        moves.extrapolate(nn.Linear(1, 1), alone(), {"q.lora_A.default.weight": torch.zeros(1)}, 0.3)


def test_a_trial_leaves_nothing_behind():
    """A first step, too, whose moments were not there before it; what was taken can be put back again and again."""
    bench, groups = rig(SFT()), random_groups(SFT(), 4)
    trainee = bench.trainee
    fresh = moves.take(trainee)
    assert not fresh["moments"]
    bench.step(groups, rate=1e-2)
    after = moves.take(trainee)
    for _ in range(2):
        bench.step(groups, rate=1e-2)
        moves.put_back(trainee, after)
        assert all(torch.equal(p, after["weights"][n]) for n, p in weights(trainee.module).items())
        assert all(float(state["step"]) == 1 for state in trainee.optimizer.state.values())
    moves.put_back(trainee, fresh)
    assert not trainee.optimizer.state
    bench.step(groups, rate=1e-2)
    assert all(torch.equal(p, after["weights"][n]) for n, p in weights(trainee.module).items())


def test_a_pull_is_the_gradient_of_half_the_squared_distance():
    one, other = two()
    anchor = {n: p.detach() for n, p in other.named_parameters()}
    distance = torch.stack([((p - anchor[n]) ** 2).sum() for n, p in one.named_parameters()]).sum()
    (one(torch.ones(1, 3)).sum() + 1.5 * distance).backward()
    wanted = {n: p.grad for n, p in one.named_parameters()}
    one.zero_grad()
    one(torch.ones(1, 3)).sum().backward()
    pulled(pull_towards(anchor, 3.0), slopes(one, alone()))
    for name, p in one.named_parameters():
        torch.testing.assert_close(p.grad, wanted[name])


def test_a_pull_that_a_method_declares_is_a_term_of_a_plain_loop():
    """Towards a copy that follows; before the gradients are clipped, and beside another pull."""
    torch.manual_seed(3)
    one, other = two()
    moves.copy(other, one, alone())
    plain, anchor = weights(one), weights(one)
    still = dict(anchor)
    leaves = {n: w.clone().requires_grad_() for n, w in plain.items()}

    class Method:
        def pulls(self):
            return Pull("target", 3.0), Pull("start", 0.5), Pull("start", 0.0)

    start = nn.Linear(3, 2)
    moves.copy(start, one, alone())
    optimizer = torch.optim.AdamW(one.parameters(), lr=0.1)
    trainee = Trainee(one, optimizer, alone(), 0.7, changing=frozenset(plain))
    follow = Move("target", "average", when="after step", rate=0.25)
    team = Team({"policy": trainee}, {"target": other, "start": start}, (follow,))
    by_hand = torch.optim.AdamW(leaves.values(), lr=0.1)
    for step in range(5):
        x = torch.randn(4, 3)
        (one(x) ** 2).mean().backward()
        trainee.update(0.1, team.tugs(Method())["policy"])
        team.move("after step", step)
        loss = (nn.functional.linear(x, leaves["weight"], leaves["bias"]) ** 2).mean()
        for n, w in leaves.items():
            loss = loss + 1.5 * ((w - anchor[n]) ** 2).sum() + 0.25 * ((w - still[n]) ** 2).sum()
        loss.backward()
        nn.utils.clip_grad_norm_(leaves.values(), 0.7)
        by_hand.step()
        by_hand.zero_grad()
        anchor = {n: anchor[n].lerp(w.detach(), 0.25) for n, w in leaves.items()}
        for name, p in one.named_parameters():
            torch.testing.assert_close(p.detach(), leaves[name].detach(), rtol=1e-5, atol=1e-6)


def test_what_has_no_gradient_is_not_pulled():
    one, _ = two()
    seen: list[Slope] = []
    pulled(seen.append, slopes(one, alone()))
    assert not seen


def test_moves_are_counted_in_steps_or_in_experiences():
    every = [Move("policy", "take", when=when, every=2, at=1) for when in ("before writing", "after step")]
    assert [[m.due(step, 3) for step in range(4)] for m in every] == [[False, True, False, True]] * 2
    first, last = (dataclasses.replace(m, unit="experience") for m in every)
    assert [step for step in range(12) if first.due(step, 3)] == [3, 9], "the first step of every other one"
    assert [step for step in range(12) if last.due(step, 3)] == [5, 11], "and its last"


@pytest.mark.parametrize("kind", ["AdamW", "RMSprop", "Adagrad", "NAdam"])
def test_who_begins_again_steps_as_a_new_optimiser(kind: str):
    """Adagrad has a state before its first step, and NAdam one that is not zero."""

    def learned(again: int) -> tuple[nn.Module, torch.optim.Optimizer]:
        one, _ = two()
        optimizer = getattr(torch.optim, kind)(one.parameters(), lr=0.1)
        team = Team({"policy": Trainee(one, optimizer, alone(), 0.0)}, moves=(BEGIN_AGAIN,), lasting=2)
        for step in range(4):
            if step == again:
                optimizer = getattr(torch.optim, kind)(one.parameters(), lr=0.1)
                team = Team({"policy": Trainee(one, optimizer, alone(), 0.0)}, lasting=2)
            team.move("before writing", step)
            (one(torch.ones(1, 3)) ** 2).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        return one, optimizer

    moved, optimizer = learned(again=9)
    made_anew, _ = learned(again=2)
    assert all(torch.equal(p, weights(made_anew)[n]) for n, p in weights(moved).items())
    assert all(float(state["step"]) == 2 for state in optimizer.state.values())
