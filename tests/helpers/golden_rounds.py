"""The golden vectors of methods with rounds: tables whose exact rounds are known, the jump ahead, pairs by win rate."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from bench_of_steps import alone
from golden_files import FILES, Checker, load
from golden_losses import method_of
from torch import Tensor, nn

from align.functional.games import EVEN
from align.lab.games import against, exploitability
from align.methods.base import of_completion
from align.methods.sppo import SPPO
from align.rewards.pairwise.oracle import from_scores
from align.training import moves
from align.training.step import Trainee
from align.training.team import Team

Check = Callable[[str, str, torch.dtype], None]
SINGLE = torch.float32  # in which weights move, whatever the vectors are computed in


def table(logits: Tensor) -> nn.Module:
    """A policy over a few actions, whose logits are its only weights."""
    made = nn.Module()
    made.logits = nn.Parameter(logits.float().clone())
    return made


def completions(method: Any, columns: dict[str, Tensor], mask: Tensor, **numbers: Tensor) -> Any:
    """A batch of the method, a row for each completion; what is not given is 0."""
    blank = torch.zeros(mask.shape, dtype=columns["logps"].dtype)
    made = {f"completion.{name}": blank.clone() for name in ("old_logps", "sampler_logps", "entropies")}
    made |= {f"completion.{name}": values for name, values in columns.items()} | {"completion.mask": mask}
    zeros = torch.zeros(len(mask), dtype=blank.dtype)
    made |= {"rewards": zeros, "earned": zeros, "auxiliary": zeros > 0, "advantages": blank, "groups": zeros.long()}
    wide = {name: v[:, None] * mask if name == "advantages" else v for name, v in numbers.items()}
    return batches.build(method.needs(), made | wide)


# ---- exact rounds ---------------------------------------------------------------------------------------------------


def check_rounds(stem: str, name: str, dtype: torch.dtype) -> None:
    """Each round is solved exactly, where the real loss of all pairs has no slope; the real team jumps between them."""
    case, inputs, check = load(stem, name, torch.float64)
    check.dtype, given = SINGLE, case["hyperparameters"]
    inner = "dpo" if "beta" in given else "sppo"
    method = method_of(
        "accelerated_po", inner=inner, beta=given.get("beta") or 1 / given["eta"], extrapolation_alpha=given["alpha"]
    )
    policy = table(inputs["ref_logits"].log_softmax(-1))
    trainee = Trainee(policy, torch.optim.AdamW(policy.parameters()), alone(), 1.0, changing=frozenset({"logits"}))
    team = Team({"policy": trainee}, moves=method.moves(), lasting=2)
    hats, starts = [policy.logits.detach().clone()], list[Tensor]()
    for number in range(given["iterations"]):
        team.move("before writing", 2 * number)
        starts.append(policy.logits.detach().clone())
        team.move("before writing", 2 * number + 1)
        assert torch.equal(policy.logits, starts[-1]), "in the middle of a round nothing jumps"
        gain = solved(method, inputs, starts[-1].double().log_softmax(-1))
        with torch.no_grad():
            policy.logits.add_(gain.float())
        hats.append(policy.logits.detach().clone())
    team.move("before writing", 2 * given["iterations"])
    found = torch.stack(hats).log_softmax(-1)
    check.equal("log_policy_hat", found)
    check.equal("log_policy_extrapolated", torch.stack([*starts, policy.logits.detach()]).log_softmax(-1))
    if inner == "dpo":
        reward = inputs["reward"]
        check.equal("suboptimality_gap_hat", reward.max() - found.double().exp() @ reward)
        centred = reward - reward.mean()
        check.equal("reward_coefficient", ((found - found[0]).double() @ centred) / (centred @ centred) * method.beta)
    else:
        game = inputs["preference_matrix"]
        check.equal("exploitability_hat", exploitability(game, found.double().log_softmax(-1), found[0].double(), 0.0))
    check.done()


def solved(method: Any, inputs: dict[str, Tensor], start: Tensor) -> Tensor:
    """By how much the logits of the round's solution are above its start's: a log-ratio, up to a constant."""
    if "reward" in inputs and method.inner == "dpo":
        gain, wins = inputs["reward"] / method.beta, (inputs["reward"][:, None] - inputs["reward"]).sigmoid()
    else:
        wins = inputs["preference_matrix"]
        gain = (against(wins, start) - EVEN) / method.beta
    size = len(start)
    first, second = (i.flatten() for i in torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij"))
    moved = gain.clone().requires_grad_()
    rows = torch.stack([first, second], 1).flatten()
    pairs = completions(
        method, {"logps": (start + moved)[rows, None], "old_logps": start[rows, None]},
        torch.ones(2 * size**2, 1, dtype=torch.bool), groups=torch.arange(size**2).repeat_interleave(2),
        rewards=torch.tensor([1.0, 0.0], dtype=start.dtype).repeat(size**2),
    )  # fmt: skip
    term = method.loss(pairs).terms["loss"]
    drawn = (start[first] + start[second]).exp() * wins.flatten()
    slope = torch.autograd.grad((term.values[term.mask] * drawn).sum(), moved)[0]
    assert slope.abs().max() < 1e-12
    return gain


# ---- the jump -------------------------------------------------------------------------------------------------------


def check_jump(stem: str, name: str, dtype: torch.dtype) -> None:
    case = next(c for c in FILES[stem]["cases"] if c["name"] == name)
    made = nn.Module()
    for key, value in case["inputs"]["hat_current"].items():
        place, weight = key.split(".")
        made.add_module(place, inner := nn.Module())
        setattr(inner, weight, nn.Parameter(torch.tensor(value)))
    before = {key: torch.tensor(value) for key, value in case["inputs"]["hat_previous"].items()}
    moves.extrapolate(made, alone(), before, case["hyperparameters"]["alpha"])
    part = Checker({}, case["expected"]["extrapolated"], SINGLE)
    for key, parameter in made.named_parameters():
        part.equal(key, parameter)
    part.done()


def check_linear(stem: str, name: str, dtype: torch.dtype) -> None:
    """Where logits are linear in the weights, a jump of weights is one of log-probabilities."""
    case, inputs, check = load(stem, name, SINGLE)
    policy = table(inputs["w_current"])
    moves.extrapolate(policy, alone(), {"logits": inputs["w_previous"]}, case["hyperparameters"]["alpha"])
    check.equal("w_extrapolated", policy.logits)
    check.equal("log_policy_extrapolated", (inputs["features"] @ policy.logits).log_softmax(-1))
    check.done()


def check_tokens(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, SINGLE)
    policy = table(inputs["logits_hat_current"])
    moves.extrapolate(policy, alone(), {"logits": inputs["logits_hat_previous"]}, case["hyperparameters"]["alpha"])
    check.equal("log_probs_extrapolated", policy.logits.log_softmax(-1))
    check.done()


# ---- pairs by win rate ----------------------------------------------------------------------------------------------


def judged(method: Any, dtype: torch.dtype) -> Any:
    """The completions of `pair_selection` as the method sees them, with its advantages."""
    scores = torch.tensor(FILES["sppo"]["cases"][0]["inputs"]["scores"], dtype=dtype)
    groups = torch.arange(len(scores)).repeat_interleave(scores.shape[1])
    mask = torch.ones(len(groups), 1, dtype=torch.bool)
    blank = {"logps": torch.zeros(len(groups), 1, dtype=dtype)}
    return method.advantages(completions(method, blank, mask, rewards=scores.flatten(), groups=groups))


def picked(method: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The rows of the best and of the worst of each prompt."""
    batch = judged(method, dtype)
    rows = method.keep(batch).nonzero()[:, 0].view(-1, 2)
    order = batch.rewards[rows].argsort(-1, descending=True)
    best, worst = rows.gather(1, order).unbind(1)
    return best, worst


def check_selection(stem: str, name: str, dtype: torch.dtype) -> None:
    _, inputs, check = load(stem, name, dtype)
    soft, single = (method_of("sppo", outcomes=how) for how in ("soft", "single"))
    count = inputs["scores"].shape[1]
    verdicts = [torch.from_numpy(from_scores(row.tolist(), "logistic", 1.0)) for row in inputs["scores"]]
    check.equal("pairwise_probability", torch.stack(verdicts))
    rates = of_completion(judged(soft, dtype)) + EVEN
    check.equal("win_rate", rates.view(-1, count))
    best, worst = picked(soft, dtype)
    check.exactly("chosen_index", (best % count).tolist())
    check.exactly("rejected_index", (worst % count).tolist())
    check.equal("chosen_probs", of_completion(judged(single, dtype))[best] + EVEN)
    check.equal("chosen_probs_win", rates[best])
    check.equal("chosen_probs_lose", rates[worst])
    check.done()


def check_pair(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method: SPPO = method_of("sppo", outcomes=name.split("_")[1], beta=case["hyperparameters"]["beta"])
    gains = torch.cat([of_completion(judged(method, dtype))[rows] for rows in picked(method, dtype)])
    both = {
        column: torch.cat([inputs[f"{whose}_{part}_logps"] for part in ("chosen", "rejected")])
        for column, whose in (("logps", "policy"), ("old_logps", "ref"))
    }
    both["logps"].requires_grad_()
    mask = torch.cat([inputs["chosen_mask"], inputs["rejected_mask"]]) > 0.5
    loss = method.loss(completions(method, both, mask, advantages=gains))
    total = batches.objective(loss)
    total.backward()
    check.equal("loss", total)
    won, lost = loss.terms["loss"].values.chunk(2)
    check.equal("per_sequence_loss", (won + lost) / 2)
    gradient = both["logps"].grad
    assert gradient is not None
    assert not gradient[~mask].any()
    for part, found in zip(("chosen", "rejected"), gradient.chunk(2), strict=True):
        check.equal(f"grad_policy_{part}_logps", found)
    for part, term in (("chosen", 0), ("rejected", 1)):
        check.equal(f"{part}_rewards", loss.terms[f"{part}_rewards"].values.chunk(2)[term])
    check.done()


def check_all(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    method = method_of("sppo", learned="all", beta=case["hyperparameters"]["beta"])
    policy = inputs["policy_logps"].requires_grad_()
    columns = {"logps": policy.flatten(0, 1), "old_logps": inputs["ref_logps"].flatten(0, 1)}
    gains = inputs["win_rate"].flatten() - EVEN
    batch = completions(method, columns, inputs["mask"].flatten(0, 1) > 0.5, advantages=gains)
    assert method.keep(batch).all()
    total = batches.objective(method.loss(batch))
    total.backward()
    check.equal("loss", total)
    check.gradient("grad_policy_logps", policy, inputs["mask"] > 0.5)
    check.done()


def check_weights(stem: str, name: str, dtype: torch.dtype) -> None:
    """Multiplicative weights against oneself, where the real loss of all completions is 0 but for the normaliser."""
    case, inputs, check = load(stem, name, torch.float64)
    check.dtype, eta, game = dtype, case["hyperparameters"]["eta"], inputs["preference_matrix"]
    method = method_of("sppo", learned="all", beta=1 / eta)
    policies = [inputs["ref_logits"].log_softmax(-1)]
    for _ in range(case["hyperparameters"]["iterations"]):
        start = policies[-1]
        gains = against(game, start) - EVEN
        there = {"logps": (start + eta * gains)[:, None], "old_logps": start[:, None]}
        batch = completions(method, there, torch.ones(len(start), 1, dtype=torch.bool), advantages=gains)
        assert batches.value(method.loss(batch)) < 1e-24
        policies.append((start + eta * gains).log_softmax(-1))
    found = torch.stack(policies)
    averages = found.exp().cumsum(0) / torch.arange(1, len(found) + 1)[:, None]
    check.equal("log_policies", found)
    check.equal("average_policies", averages)
    check.equal("exploitability_last", exploitability(game, found, found[0], 0.0))
    check.equal("exploitability_average", exploitability(game, averages.log(), found[0], 0.0))
    check.done()


ROUND_CHECKS: dict[tuple[str, str], Check] = {
    **{("accelerated-po", f"tabular_dpo_alpha_{a}"): check_rounds for a in ("0.0", "0.3", "0.6")},
    **{("accelerated-po", f"tabular_sppo_alpha_{a}"): check_rounds for a in ("0.0", "0.3")},
    ("accelerated-po", "parameter_extrapolation"): check_jump,
    ("accelerated-po", "softmax_linear_equivalence"): check_linear,
    ("accelerated-po", "per_token_extrapolation"): check_tokens,
    ("sppo", "pair_selection"): check_selection,
    **{("sppo", f"pair_{how}"): check_pair for how in ("soft", "single", "hard")},
    ("sppo", "all_responses"): check_all,
    ("sppo", "tabular_multiplicative_weights"): check_weights,
}
