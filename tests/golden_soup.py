"""The golden vectors of SALSA: averages of weights, and what a reference that is one of them charges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from golden_files import FILES, Checker, load
from torch import Tensor, nn

from align.functional.advantages import final_rewards
from align.functional.kl import k1
from align.functional.masked import masked_sum
from align.models.soup import averaged

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


SOUP_CHECKS: dict[tuple[str, str], Check] = {
    ("salsa", "two_model_soup"): check_soup,
    ("salsa", "three_model_soup"): check_soup,
    ("salsa", "softmax_linear_soup"): check_linear,
    ("salsa", "shaped_rewards"): check_rewards,
}
