"""Float32 masters of bfloat16 weights: what the optimiser steps, beside a plain loop, and what a run keeps of them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_of_steps import alone
from small_runs import assert_resumes, same, train, weights
from torch import nn

from align.cli.main import main
from align.runfolder.fragments import Saved
from align.training.optim import make_optimizer
from align.training.settings import OptimSection
from align.training.slopes import masters_of, pull_towards, stepped
from align.training.step import Trainee

RATE, DECAY, BETA1, BETA2, EPSILON = 1e-3, 0.1, 0.9, 0.99, 1e-8
OPTIM = OptimSection(
    learning_rate=RATE, weight_decay=DECAY, adam_beta1=BETA1, adam_beta2=BETA2, adam_epsilon=EPSILON, masters=True
)
RUN = (
    "model.dtype=bfloat16", "training.mixed_precision=no", "data.num_rows=40", "data.validation=0", "data.test=0",
    "training.eval_steps=0", "training.num_train_epochs=null", "training.batch_size=4", "training.max_steps=4",
    "training.save_steps=1", "training.save_total_limit=20", "logging.num_completions=0",
)  # fmt: skip
ROWS = torch.randn(16, 8, generator=torch.Generator().manual_seed(1)).to(torch.bfloat16)


def half_precise() -> nn.Module:
    """A norm's gain stays float32: it is its own master."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 1)).to(torch.bfloat16)
    module[1].to(torch.float32)
    gain = module[1]
    gain.forward = lambda x: nn.functional.layer_norm(x.float(), (16,), gain.weight, gain.bias).bfloat16()
    return module


def loss_of(module: Any, step: int) -> torch.Tensor:
    rows = ROWS[step % 4 * 4 :][:4]
    return (module(rows).float() - rows.float().sum(-1, keepdim=True)).square().mean()


def trained(module: nn.Module, optim: OptimSection) -> Trainee:
    masters = masters_of(module) if optim.masters else None
    optimizer = make_optimizer(stepped(module, masters), optim)
    return Trainee(module, optimizer, alone(), max_grad_norm=0.5, masters=masters)


def test_steps_are_those_of_a_plain_loop_over_float32_masters():
    """AdamW written out: m and v are means of the gradient and of its square, w <- w - rate m' / (sqrt(v') + eps)
    after w <- w (1 - rate decay) for matrices; gradients are float32 copies of bfloat16 ones, clipped at 0.5."""
    module, other = half_precise(), half_precise()
    trainee = trained(module, OPTIM)
    masters = {name: p.detach().float().clone() for name, p in other.named_parameters()}
    first, second = ({name: torch.zeros_like(w) for name, w in masters.items()} for _ in range(2))
    for step in range(12):
        trainee.backward(loss_of(module, step))
        norm = trainee.update(RATE)
        loss_of(other, step).backward()
        slopes = {name: p.grad.float() for name, p in other.named_parameters() if p.grad is not None}
        total = torch.stack([g.square().sum() for g in slopes.values()]).sum().sqrt()
        assert norm == pytest.approx(total.item(), rel=1e-5)
        for name, p in other.named_parameters():
            g = slopes[name] * (0.5 / (total + 1e-6)).clamp(max=1.0)
            if p.ndim == 2:
                masters[name] *= 1 - RATE * DECAY
            first[name].mul_(BETA1).add_((1 - BETA1) * g)
            second[name].mul_(BETA2).add_((1 - BETA2) * g * g)
            mean, square = first[name] / (1 - BETA1 ** (step + 1)), second[name] / (1 - BETA2 ** (step + 1))
            masters[name] -= RATE * mean / (square.sqrt() + EPSILON)
            p.data.copy_(masters[name])
            p.grad = None
    assert trainee.masters is not None
    assert set(trainee.masters.of) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    for name, (weight, master) in trainee.masters.of.items():
        torch.testing.assert_close(master.detach(), masters[name], rtol=1e-5, atol=1e-6)
        assert torch.equal(weight, master.to(torch.bfloat16)), "a weight is what its master rounds to"
    torch.testing.assert_close(module[1].weight.detach(), masters["1.weight"], rtol=1e-5, atol=1e-6)


def test_steps_too_small_for_a_weight_add_up_in_its_master():
    """A step of 1e-4 is less than half of what bfloat16 tells apart below 1 (2^-8): without masters nothing moves."""
    moved: dict[bool, float] = {}
    for kept in (False, True):
        module = nn.Linear(4, 1, bias=False).to(torch.bfloat16)
        nn.init.ones_(module.weight)
        trainee = trained(module, OptimSection(learning_rate=1e-4, masters=kept))
        for _ in range(100):
            trainee.backward(module(torch.ones(1, 4, dtype=torch.bfloat16)).float().sum())  # the gradient is 1 always
            trainee.update(1e-4)
        moved[kept] = 1 - module.weight.float().mean().item()
    assert moved[False] == 0
    assert moved[True] == pytest.approx(100 * 1e-4, abs=2**-8)


def test_a_pull_is_on_the_masters_gradients():
    module = nn.Linear(4, 1, bias=False).to(torch.bfloat16)
    anchor = {"weight": torch.zeros(1, 4)}
    trainee = trained(module, OptimSection(optim="SGD", learning_rate=1.0, masters=True))
    assert trainee.masters is not None
    before = copy.deepcopy(trainee.masters.of["weight"][1].detach())
    trainee.backward(0.0 * module(torch.ones(1, 4, dtype=torch.bfloat16)).float().sum())
    trainee.update(0.25, pull_towards(anchor, 1.0))
    after = trainee.masters.of["weight"][1].detach()
    norm = before.norm()
    torch.testing.assert_close(after, before - 0.25 * before * min(1.0, 0.5 / norm.item()))


def test_a_run_resumes_bitwise_and_its_checkpoints_hold_the_masters(tmp_path: Path):
    words = (*RUN, "optim.masters=true", "optim.learning_rate=1e-5")
    whole = train("dpo", tmp_path / "whole", *words)
    for step in (1, 2):
        assert_resumes("dpo", whole, tmp_path, step, *words)
    kept = Saved(whole / "checkpoints/step-000004/state", 0).whole()
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}
    made = weights(whole)
    assert {tensor.dtype for tensor in made.values()} == {torch.bfloat16}
    by_name = {name.removeprefix("model."): tensor.reshape(-1) for name, tensor in kept.items()}
    rounded = {name: tensor.reshape(-1) for name, tensor in made.items()}
    assert all(torch.equal(rounded[name], by_name[name].to(torch.bfloat16)) for name in rounded)
    assert any(not torch.equal(tensor, tensor.to(torch.bfloat16).float()) for tensor in by_name.values())
    without = train("dpo", tmp_path / "without", *RUN, "optim.learning_rate=1e-5")
    assert not same(weights(whole), weights(without))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("dpo",), "optim.masters: has no effect: the weights are float32, and their own masters"),
        (("dpo", "model.dtype=bfloat16", "model.lora={r: 2}"), "optim.masters: has no effect: an adapter is float32"),
        (("accelerated_po", "model.dtype=bfloat16"), "optim.masters: accelerated_po writes the policy's weights"),
    ],
)
def test_where_they_are_of_no_use_they_are_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", *words, "optim.masters=true"]) == 2
    assert told in capsys.readouterr().err


def test_a_moving_average_is_not_kept_in_few_bits(capsys: pytest.CaptureFixture[str]):
    """A hundredth of the way is less than bfloat16 can tell apart, once the copy is near."""
    assert main(["check", "nash_mp", "method.target=ema", "model.dtype=bfloat16"]) == 2
    assert "model.dtype: found bfloat16, which rounds away what a moving average adds" in capsys.readouterr().err
    assert main(["check", "nash_mp", "method.target=hard", "model.dtype=bfloat16"]) == 0
    assert main(["check", "nash_mp", "method.target=ema", "model.dtype=bfloat16", "model.lora={r: 2}"]) == 0
