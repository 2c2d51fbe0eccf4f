"""The golden vectors of SALSA: averages of weights, and what a reference that is one of them charges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from golden_files import FILES, Checker, load
from golden_losses import method_of
from torch import Tensor, nn

from align.batches import Anchored, Rollouts
from align.functional.advantages import final_rewards
from align.functional.kl import k1
from align.functional.masked import masked_sum
from align.methods.base import kl_charged
from align.models.frozen import averaged

Check = Callable[[str, str, torch.dtype], None]


class Weights(nn.Module):
    """Parameters without a forward."""

    def __init__(self, given: dict[str, Any], dtype: torch.dtype):
        super().__init__()
        for name, values in given.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(values, dtype=dtype)))


def soup(models: list[dict[str, Any]], shares: list[float], dtype: torch.dtype) -> dict[str, Tensor]:
    made = averaged(((str(i), Weights(model, dtype)) for i, model in enumerate(models)), shares)
    return {name: p.detach() for name, p in made.named_parameters()}


def check_soup(stem: str, name: str, dtype: torch.dtype) -> None:
    case = next(c for c in FILES[stem]["cases"] if c["name"] == name)
    part = Checker(FILES[stem], case["expected"]["soup"], dtype)
    for key, values in soup(case["inputs"]["models"], case["hyperparameters"]["weights"], dtype).items():
        part.equal(key, values)
    part.done()


def check_linear(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    parents = [{"w": case["inputs"][key]} for key in ("w1", "w2")]
    weights = soup(parents, case["hyperparameters"]["weights"], dtype)["w"]
    check.equal("log_policy_soup", (inputs["features"] @ weights).log_softmax(-1))
    check.done()


def check_rewards(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    mask, beta = inputs["mask"] > 0.5, case["hyperparameters"]["beta"]
    kl = k1(inputs["policy_logps"] - inputs["soup_logps"]).masked_fill(~mask, 0.0)
    rewards = final_rewards(inputs["score"], mask) - beta * kl
    check.equal("token_rewards", rewards)
    check.equal("sequence_kl_estimate", masked_sum(kl, mask))
    check.equal("sequence_return", masked_sum(rewards, mask))
    check.done()


def check_objective(stem: str, name: str, dtype: torch.dtype) -> None:
    """One token, all of which are written as often as they are likely: what the methods charge, averaged over them."""
    case, inputs, check = load(stem, name, dtype)
    beta, logits = case["hyperparameters"]["beta"], inputs["logits"].requires_grad_()
    method = method_of("rloo", kl_coef=beta)

    def charged(policy: Tensor) -> Tensor:
        every = torch.ones(len(policy), 1, dtype=torch.bool)
        written = Anchored(
            mask=every, logps=policy[:, None], old_logps=policy.detach()[:, None], entropies=every.to(dtype),
            sampler_logps=policy.detach()[:, None], ref_logps=inputs["log_policy_soup"][:, None],
        )  # fmt: skip
        rest = {"groups": every[:, 0].long(), "auxiliary": ~every[:, 0], "advantages": every.to(dtype)}
        earned = {"rewards": inputs["reward"], "earned": inputs["reward"]}
        return kl_charged(Rollouts(completion=written, **earned, **rest), method.kl_coef)

    policy = logits.log_softmax(-1)
    earned = charged(policy)
    chances = policy.detach().exp()
    check.equal("kl_policy_soup", chances @ (policy - inputs["log_policy_soup"]))
    check.equal("objective", chances @ earned)
    (chances * earned * policy).sum().backward()
    assert logits.grad is not None
    check.equal("grad_logits", logits.grad)
    best = torch.tensor(check.expected["optimal_log_policy"], dtype=dtype)
    same = charged(best)
    torch.testing.assert_close(same, same.mean().expand_as(same), rtol=1e-4, atol=1e-6)
    check.equal("optimal_log_policy", (inputs["log_policy_soup"] + inputs["reward"] / beta).log_softmax(-1))
    check.done()


SOUP_CHECKS: dict[tuple[str, str], Check] = {
    ("salsa", "two_model_soup"): check_soup,
    ("salsa", "three_model_soup"): check_soup,
    ("salsa", "softmax_linear_soup"): check_linear,
    ("salsa", "shaped_rewards"): check_rewards,
    ("salsa", "regularised_objective"): check_objective,
}
