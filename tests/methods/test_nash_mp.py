"""Nash-MP by the properties of its page: what a token weighs, and that the mean of it is the gradient of the game."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from bench_of_steps import Rig, learn, rig
from rollout_batches import gradient, on_policy, random_rollouts
from torch import Tensor

from align.batches import Ask, Group, Tokens
from align.functional.advantages import rewards_to_go
from align.functional.masked import masked_sum
from align.lab.games import divergence, random_game
from align.methods.nash_mp import NashMP
from align.needs import Move

PROMPT = np.array([1, 2], dtype=np.int32)
WORDS = 4  # and completions of two of them


def rollouts(method: NashMP, **given: Tensor) -> Any:
    """Random ones, whose target is as far away as their reference, elsewhere."""
    batch = random_rollouts(method, rewards=torch.rand(12, generator=torch.Generator().manual_seed(3)).double())
    noise = torch.randn(batch.completion.mask.shape, generator=torch.Generator().manual_seed(4)).double()
    target = given.get("target", batch.completion.old_logps + 0.2 * noise)
    return dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, target_logps=target))


def test_a_token_pays_for_what_is_still_to_come():
    """p 0.8, beta 0.5, eta 2, two tokens with d = 0.2, 0.1 and e = 0.4, 0: 0.3 - 0.15 - 0.1 and 0.3 - 0.05."""
    method = NashMP(beta=0.5, eta=2.0)
    batch = rollouts(method).select(torch.tensor([0]))
    two = torch.arange(batch.completion.mask.shape[1])[None] < 2
    old = torch.full_like(batch.completion.old_logps, -1.0)
    d, e = (torch.zeros_like(old) for _ in range(2))
    d[0, :2], e[0, 0] = torch.tensor([0.2, 0.1]), 0.4
    written = dataclasses.replace(batch.completion, mask=two, old_logps=old, ref_logps=old - d, target_logps=old - e)
    batch = dataclasses.replace(batch, completion=written, rewards=torch.tensor([0.8], dtype=torch.float64))
    found = method.advantages(batch).advantages[0]
    torch.testing.assert_close(found[:2], torch.tensor([0.05, 0.25], dtype=torch.float64))
    assert not found[2:].any()


def test_on_policy_the_gradient_is_the_weight_and_far_from_it_that_of_ppo():
    method = NashMP()
    batch = on_policy(method.advantages(rollouts(method)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / len(batch))
    moved = batch.completion.old_logps + 0.3  # ratios of 1.35: those that are to grow have grown enough
    far = dataclasses.replace(batch, completion=dataclasses.replace(batch.completion, logps=moved.requires_grad_()))
    found, mask = gradient(method, far), batch.completion.mask
    assert not found[mask & (batch.advantages > 0)].any()
    down = mask & (batch.advantages < 0)
    torch.testing.assert_close(found[down], -(batch.advantages * np.exp(0.3))[down] / len(batch))


def test_an_endless_eta_drops_the_target():
    without = NashMP(eta=1e12)
    batch = rollouts(without)
    written = batch.completion
    charged = torch.where(written.mask, written.old_logps - written.ref_logps, 0.0)
    wanted = rewards_to_go(torch.zeros_like(charged), written.mask) - rewards_to_go(0.1 * charged, written.mask)
    wanted = (wanted + (batch.rewards - 0.5)[:, None]).masked_fill(~written.mask, 0.0)
    torch.testing.assert_close(without.advantages(batch).advantages, wanted, rtol=0, atol=1e-9)


def test_a_target_that_is_the_reference_makes_beta_larger():
    near = rollouts(NashMP())
    near = rollouts(NashMP(), target=near.completion.ref_logps)
    twice = NashMP(beta=0.1 * (1 + 1 / 0.5), eta=1e12).advantages(near).advantages
    torch.testing.assert_close(NashMP(beta=0.1, eta=0.5).advantages(near).advantages, twice, rtol=0, atol=1e-9)


def test_an_even_game_at_home_teaches_nothing():
    method = NashMP()
    batch = rollouts(method)
    old = batch.completion.old_logps
    home = dataclasses.replace(batch.completion, ref_logps=old, target_logps=old)
    even = dataclasses.replace(batch, completion=home, rewards=torch.full_like(batch.rewards, 0.5))
    assert not gradient(method, on_policy(method.advantages(even))).any()


def test_opponents_are_asked_for_once_and_as_many_as_there_are_completions():
    method = NashMP(form="two_step", target_every=1)
    batch = rollouts(method)
    asks = method.resample(batch)
    assert asks == [Ask(row, 4, writer="opponent") for row in (0, 4, 8)]
    answered = dataclasses.replace(batch, auxiliary=torch.arange(12) == 7)
    assert [ask.row for ask in method.resample(answered)] == [0, 8]
    assert NashMP().resample(batch) == []
    assert (NashMP().writers(), method.writers()) == ((), ("opponent",))


def test_the_look_ahead_is_undone_before_the_second_half():
    def made(method: NashMP, step: int, when: str) -> list[tuple[str, str]]:
        return [(m.role, m.how) for m in method.moves() if m.when == when and step % m.every == m.at]

    two = NashMP(form="two_step", target_every=3)
    begins = [made(two, step, "before writing") for step in range(7)]
    first = [("opponent", "copy"), ("target", "copy"), ("policy", "take")]
    assert begins == [first, [], [], [("opponent", "copy"), ("policy", "put back")], [], [], first]
    assert [bool(made(NashMP(target_every=3), step, "after step")) for step in range(6)] == [False, False, True] * 2
    assert NashMP(target="ema", kappa=0.2).moves() == (Move("target", "average", when="after step", rate=0.2),)


def test_a_centre_that_moves_has_no_second_half():
    with pytest.raises(ValueError, match=r"nash_mp.target is 'ema'; it must be hard where form is two_step"):
        NashMP(form="two_step", target="ema")


# ---- the mean of the estimator, over every completion of two tokens, in the real step -------------------------------


def completions() -> Tensor:
    return torch.tensor(list(itertools.product(range(WORDS), repeat=2)))


def sequence_logps(model: Any) -> Tensor:
    """(Y,): log-probability of every completion."""
    said = completions()
    ids = torch.cat([torch.from_numpy(PROMPT).long().expand(len(said), -1), said], 1)
    table = model(input_ids=ids).logits.log_softmax(-1)[:, len(PROMPT) - 1 : -1]
    return table.gather(-1, said[..., None])[..., 0].sum(-1)


def step_gradients(bench: Rig, experience: Any) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    hook = bench.trainee.optimizer.register_step_pre_hook(
        lambda *_: found.update({n: p.grad.clone() for n, p in bench.model.named_parameters()})
    )
    learn(bench.trainee, bench.method, experience, bench.batching, 0.0)
    hook.remove()
    return found


@pytest.mark.parametrize("estimator", ["reward to go", "per token"])
def test_over_all_completions_the_step_is_the_exact_gradient_and_with_tokens_alone_it_is_not(estimator: str):
    method = NashMP(beta=0.3, eta=0.5)
    bench = rig(method, vocabulary=WORDS)
    policy, reference, target = (
        sequence_logps(m) for m in (bench.model, *(bench.roles[r].model.model for r in ("ref", "target")))
    )
    game = random_game(WORDS**2, 0).float()
    won = game @ policy.detach().exp()
    price = 0.3 * divergence(policy, reference) + 0.3 / 0.5 * divergence(policy, target)
    worth = (policy.exp() * won).sum() - price
    exact = torch.autograd.grad(-worth, list(bench.model.parameters()))
    groups = [
        Group(
            (Tokens(PROMPT, said.numpy().astype(np.int32), np.ones(2, dtype=bool)),),
            {"group": 0.0, "reward": float(p), "earned": float(p), "auxiliary": 0.0}, i,
        )
        for i, (said, p) in enumerate(zip(completions(), won, strict=True))
    ]  # fmt: skip
    experience = bench.experience(groups)
    batch = experience.batch
    advantages, written = batch.advantages, batch.completion
    if estimator == "per token":
        d, e = written.old_logps - written.ref_logps, written.old_logps - written.target_logps
        advantages = batch.rewards[:, None] - 0.5 - 0.3 * d - 0.6 * e
    drawn = policy.detach().exp()[:, None] * len(groups)  # every completion as often as the policy writes it
    batch = dataclasses.replace(batch, advantages=advantages * drawn)
    made = step_gradients(bench, dataclasses.replace(experience, batch=batch))
    off = max((made[n] - g).abs().max().item() for (n, _), g in zip(bench.model.named_parameters(), exact, strict=True))
    scale = max(g.abs().max().item() for g in exact)
    assert (off < 1e-4 * scale) == (estimator == "reward to go"), off / scale


def test_the_loss_reports_how_far_the_target_is():
    method = NashMP()
    batch = method.advantages(rollouts(method))
    found = method.loss(batch).terms["target_kl"]
    written = batch.completion
    torch.testing.assert_close(found.values, masked_sum(written.old_logps - written.target_logps, written.mask))
