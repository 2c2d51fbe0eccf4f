"""The golden vectors of preference games: iterates towards an equilibrium, and gradients of policies that play."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import method_batches as batches
import torch
from golden_files import Checker, load
from torch import Tensor

from align.functional.games import win_advantages
from align.functional.masked import masked_sum
from align.functional.preference import identity_loss, log_ratio
from align.lab.games import against, divergence, earned, equilibrium, exploitability, mirror_prox
from align.methods.nash_mp import NashMP


def check_iterates(stem: str, name: str, dtype: torch.dtype) -> None:
    """Mirror prox, the proximal point, Nash-MD and mirror descent; games are played in float64."""
    case, inputs, check = load(stem, name, torch.float64)
    check.dtype = dtype
    game, reference, given = inputs["preference_matrix"], inputs["ref_logits"].log_softmax(-1), case["hyperparameters"]
    beta, halves, mixtures = given["beta"], list[Tensor](), list[Tensor]()
    etas = torch.as_tensor(given["eta"], dtype=torch.float64).expand(given["iterations"]).tolist()

    def moved(current: Tensor, eta: float) -> Tensor:
        if name.startswith("nash_mp"):
            found, half = mirror_prox(game, current, reference, beta, eta)
            halves.append(half)
            return found
        if name.startswith("proximal_point"):  # the implicit step is the equilibrium of a game about its centre
            centre, strength = (current + eta * reference) / (1 + eta), beta * (1 + eta) / eta
            return equilibrium(game, centre.log_softmax(-1), strength)
        mixtures.append(((1 - eta * beta) * current + eta * beta * reference).log_softmax(-1))
        played = mixtures[-1] if name.startswith("nash_md") else current
        return (mixtures[-1] + eta * against(game, played)).log_softmax(-1)

    iterates = [reference]
    for eta in etas:
        iterates.append(moved(iterates[-1], eta))
    mixtures.append(((1 - etas[-1] * beta) * iterates[-1] + etas[-1] * beta * reference).log_softmax(-1))
    found, star = torch.stack(iterates), equilibrium(game, reference, beta)
    check.equal("equilibrium_log_policy", star)
    check.equal("log_policies", found)
    check.equal("kl_star_to_iterate", torch.stack([divergence(star, p) for p in found]))
    check.equal("kl_iterate_to_star", torch.stack([divergence(p, star) for p in found]))
    check.equal("exploitability", exploitability(game, found, reference, beta))
    for field, several in (("half_step_log_policies", halves), ("mixture_log_policies", mixtures)):
        if field in check.left:
            check.equal(field, torch.stack(several[: len(check.expected[field])]))
    if "kl_bound" in check.left:
        check.equal("kl_bound", divergence(star, reference) * (1 + etas[0]) ** -torch.arange(len(found)).double())
    check.done()


def check_self_play(stem: str, name: str, dtype: torch.dtype) -> None:
    """The gradient of the game, and that of online IPO over all pairs, which is -4 / beta times it."""
    case, inputs, check = load(stem, name, torch.float64)
    check.dtype = dtype
    game, reference = inputs["preference_matrix"], inputs["ref_logits"].log_softmax(-1)
    beta = case["hyperparameters"]["beta"]
    logits = inputs["logits"].requires_grad_()
    policy, still = logits.log_softmax(-1), logits.detach().log_softmax(-1)
    opponents = {
        "self_play": still,
        "opponent_mixture_0.25": (0.75 * still + 0.25 * reference).log_softmax(-1),
        "opponent_reference": reference,
    }
    for which, opponent in opponents.items():
        (found,) = torch.autograd.grad(earned(game, policy, opponent, reference, beta), logits, retain_graph=True)
        check.equal(f"grad_J_{which}", found)
    margins = (policy - reference)[:, None] - (policy - reference)
    drawn = still.exp()[:, None] * still.exp()
    soft = (drawn * identity_loss(margins.flatten(), game.flatten(), beta).view_as(drawn)).sum()
    won, lost = (identity_loss(margins.flatten(), label, beta).view_as(drawn) for label in (1.0, 0.0))
    hard = (drawn * (game * won + (1 - game) * lost)).sum()
    check.equal("online_ipo_loss_soft_labels", soft)
    check.equal("online_ipo_loss_hard_labels", hard)
    for loss in (soft, hard):
        (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
        check.equal("online_ipo_grad", found)
    check.equal("online_ipo_grad", -4 / beta * check.tensor("grad_J_self_play"))
    check.done()


def check_policy_gradients(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    given, mask, won = case["hyperparameters"], inputs["mask"] > 0.5, inputs["win_probability"]
    d, e = (inputs["policy_logps"] - inputs[f"{role}_logps"] for role in ("ref", "target"))
    own = given["beta"] * d
    prices = {"nash_md": own, "nash_mp": own + given["beta"] / given["eta"] * e}
    for variant, expected in check.expected.items():
        advantages = _estimates(won, prices[variant[:7]], mask)[variant[11:]]
        leaf, part = inputs["policy_logps"].clone().requires_grad_(), Checker({}, expected, dtype)
        part.tolerance = check.tolerance
        loss = -masked_sum(advantages * leaf, mask).mean()
        loss.backward()
        part.equal("loss", loss)
        part.gradient("grad_policy_logps", leaf, mask)
        part.done()
        if variant == "nash_mp_pg_reward_to_go":  # its loss has another value, that of ratios, and the same gradient
            leaf = inputs["policy_logps"].clone().requires_grad_()
            near = {"ref": inputs["ref_logps"], "target": inputs["target_logps"]}
            _played(NashMP(beta=given["beta"], eta=given["eta"]), leaf, near, mask, won).mean().backward()
            Checker({}, {"grad": expected["grad_policy_logps"]}, dtype).gradient("grad", leaf, mask)


def _played(method: NashMP, logps: Tensor, near: dict[str, Tensor], mask: Tensor, won: Tensor) -> Tensor:
    """(B,): the losses of the real class, on policy."""
    old = logps.detach()
    member = {"logps": logps, "old_logps": old, "sampler_logps": old, "entropies": torch.zeros_like(old), "mask": mask}
    tensors = {f"completion.{name}": column for name, column in member.items()}
    tensors |= {f"completion.{role}_logps": column for role, column in near.items()}
    tensors |= {"rewards": won, "earned": won, "groups": torch.zeros(len(won), dtype=torch.long)}
    tensors |= {"auxiliary": torch.zeros(len(won), dtype=torch.bool), "advantages": torch.zeros_like(old)}
    batch = method.advantages(batches.build(method.needs(), tensors))
    return method.loss(batch).terms["loss"].values


def _estimates(won: Tensor, charged: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Ours, and two others: one weight for a completion, and one that forgets what later tokens are charged."""
    whole = (won - 0.5 - masked_sum(charged, mask))[:, None].expand(mask.shape)
    alone = won[:, None] - 0.5 - charged
    found = {"sequence_level": whole, "reward_to_go": win_advantages(won, charged, mask), "per_token_biased": alone}
    return {which: advantages.masked_fill(~mask, 0.0) for which, advantages in found.items()}


def check_two_tokens(stem: str, name: str, dtype: torch.dtype) -> None:
    """The mean gradient over all completions of two tokens: exact for two estimators, wrong for the third."""
    case, inputs, check = load(stem, name, dtype)
    beta, first, second = case["hyperparameters"]["beta"], *(inputs[f"logits_{n}"] for n in ("first", "second"))
    first, second = first.requires_grad_(), second.requires_grad_()
    logps, ref = (
        torch.stack([a[:, None].expand(2, 2).flatten(), b.flatten()], 1)
        for a, b in (
            (first.log_softmax(-1), second.log_softmax(-1)),
            (inputs["ref_logits_first"].log_softmax(-1), inputs["ref_logits_second"].log_softmax(-1)),
        )
    )
    won, mask, drawn = inputs["win_probability"].flatten(), torch.ones(4, 2, dtype=torch.bool), logps.sum(1).exp()
    objective = (drawn * (won - beta * (logps - ref).sum(1))).sum()
    check.equal("objective", objective)
    for field, found in _gradients(objective, first, second).items():
        check.equal(f"grad_{field}", found)
    for estimator, advantages in _estimates(won, beta * (logps - ref).detach(), mask).items():
        part = Checker({}, check.expected["expected_ascent_direction"][estimator], dtype)
        part.tolerance = check.tolerance
        for field, found in _gradients((drawn.detach() * (advantages * logps).sum(1)).sum(), first, second).items():
            part.equal(field, found)
        part.done()
    near = {"ref": ref, "target": ref}
    losses = _played(NashMP(beta=beta / 2, eta=1.0), logps, near, mask, won)  # half of beta to each is beta to the one
    part = Checker({}, check.expected["expected_ascent_direction"]["reward_to_go"], dtype)
    for field, found in _gradients(-(drawn.detach() * losses).sum(), first, second).items():
        part.equal(field, found)
    check.left.discard("expected_ascent_direction")
    check.done()


def _gradients(value: Tensor, first: Tensor, second: Tensor) -> dict[str, Tensor]:
    return dict(zip(("first", "second"), torch.autograd.grad(value, (first, second), retain_graph=True), strict=True))


def check_online_ipo(stem: str, name: str, dtype: torch.dtype) -> None:
    case, inputs, check = load(stem, name, dtype)
    leaves: dict[str, Any] = {m: inputs[f"policy_{m}_logps"].requires_grad_() for m in ("chosen", "rejected")}
    masks = {m: inputs[f"{m}_mask"] > 0.5 for m in leaves}
    u = {m: log_ratio(leaves[m], inputs[f"ref_{m}_logps"], masks[m]) for m in leaves}
    losses = identity_loss(u["chosen"] - u["rejected"], inputs["win_probability"], case["hyperparameters"]["beta"])
    losses.mean().backward()
    check.equal("per_sequence_loss", losses)
    check.equal("loss", losses.mean())
    for member, leaf in leaves.items():
        check.gradient(f"grad_policy_{member}_logps", leaf, masks[member])
    check.done()


ITERATED = ("nash_mp", "proximal_point", "nash_md_constant", "nash_md_schedule", "online_mirror_descent")
GAME_CHECKS: dict[tuple[str, str], Callable[[str, str, torch.dtype], None]] = {
    **{("nash-mp", name): check_iterates for name in ITERATED},
    ("nash-mp", "tabular_gradients"): check_self_play,
    ("nash-mp", "policy_gradient_losses"): check_policy_gradients,
    ("nash-mp", "estimator_expectations_two_token_tree"): check_two_tokens,
    ("nash-mp", "online_ipo_soft"): check_online_ipo,
}
