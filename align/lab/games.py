"""Preference games in tables: what beats what is known, so is the policy that nothing beats.

Y completions of a prompt are actions. `preference` (..., Y, Y) holds P(row beats column), so P + P^T = 1; a leading
axis is one of prompts, whose games are independent. Policies are log-probabilities (..., Y), all in float64.

    J(pi, q) = P(pi > q) - beta KL(pi | ref) + beta KL(q | ref)

has one equilibrium, pi* ~ ref exp(P pi* / beta). Mirror prox (`mirror_prox`) comes closer by a factor of 1 + eta in
every iteration, and Newton's method goes the rest of the way. That of the game without a price for KL (beta 0) is found
by a linear program.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

SETTLED = 1e-12  # how far an equilibrium may be from the best answer to it, in log-probabilities
NEARER, STEPS, MOST = 20, 6, 1000  # iterations of mirror prox, then of Newton's method, and how often both at most


def rock_paper_scissors(num_actions: int = 3, margin: float = 0.5) -> Float[Tensor, "Y Y"]:
    """A cycle of an odd number of actions: each beats the half of the others behind it by `margin`, up to 0.5.

    The equilibrium without a price for KL is uniform.
    """
    assert num_actions % 2, "an even cycle has no equal halves"
    assert 0 <= margin <= 0.5, "P lies within 0 and 1"
    places = torch.arange(num_actions)
    ahead = (places[:, None] - places) % num_actions
    sign = torch.where(ahead == 0, 0.0, torch.where(ahead <= num_actions // 2, 1.0, -1.0))
    return 0.5 + margin * sign.double()


def random_game(num_actions: int, seed: int, *prompts: int) -> Float[Tensor, "*prompts Y Y"]:
    """P drawn evenly from 0 to 1 for each pair, so that there are cycles among many actions."""
    draw = torch.Generator().manual_seed(seed)
    above = torch.rand(*prompts, num_actions, num_actions, generator=draw, dtype=torch.float64).triu(1)
    return above + (1 - above.mT).tril(-1) + 0.5 * torch.eye(num_actions, dtype=torch.float64)


def transitive_game(worths: Float[Tensor, "*prompts Y"]) -> Float[Tensor, "*prompts Y Y"]:
    """P = 1/2 + r_a - r_b, of worths less than 1/2 apart: the equilibrium is ref exp(r / beta), as of a reward."""
    return 0.5 + worths[..., :, None] - worths[..., None, :]


def against(preference: Tensor, opponent: Float[Tensor, "*prompts Y"]) -> Float[Tensor, "*prompts Y"]:
    """For each action, the probability that it beats what the opponent plays."""
    return (preference @ opponent.exp()[..., None])[..., 0]


def divergence(policy: Float[Tensor, "*#prompts Y"], other: Float[Tensor, "*#prompts Y"]) -> Float[Tensor, "*prompts"]:
    """KL(policy | other) in nats."""
    return (policy.exp() * (policy - other)).sum(-1)


def earned(
    preference: Tensor, policy: Float[Tensor, "*#prompts Y"], opponent: Float[Tensor, "*#prompts Y"],
    reference: Float[Tensor, "*#prompts Y"], beta: float,
) -> Float[Tensor, "*prompts"]:  # fmt: skip
    """J(policy, opponent): how often it wins, less its KL and plus the opponent's."""
    won = (policy.exp() * against(preference, opponent)).sum(-1)
    return won - beta * divergence(policy, reference) + beta * divergence(opponent, reference)


def proximal_step(
    centre: Float[Tensor, "*prompts Y"], reference: Float[Tensor, "*prompts Y"], won: Float[Tensor, "*prompts Y"],
    beta: float, eta: float,
) -> Float[Tensor, "*prompts Y"]:  # fmt: skip
    """The best policy against an opponent that stands still, at the price of leaving the reference and the centre.

    argmax_pi  pi . won - beta KL(pi | ref) - beta / eta KL(pi | centre),   `won`: P(action beats the opponent)
    """
    return ((centre + eta * reference + eta / beta * won) / (1 + eta)).log_softmax(-1)


def mirror_prox(
    preference: Tensor, policy: Float[Tensor, "*prompts Y"], reference: Float[Tensor, "*prompts Y"],
    beta: float, eta: float,
) -> tuple[Float[Tensor, "*prompts Y"], Float[Tensor, "*prompts Y"]]:  # fmt: skip
    """The next policy, and the look-ahead that it is a best answer to (Nash-MP, arXiv:2505.19731v1).

    Both steps have the same centre. KL(pi* | .) shrinks by 1 / (1 + eta) at least, for eta <= 2 beta.
    """
    ahead = proximal_step(policy, reference, against(preference, policy), beta, eta)
    return proximal_step(policy, reference, against(preference, ahead), beta, eta), ahead


def equilibrium(
    preference: Tensor, reference: Float[Tensor, "*prompts Y"], beta: float
) -> Float[Tensor, "*prompts Y"]:
    """The policy that nothing beats once both pay beta for a nat of KL to the reference."""
    assert beta > 0, "without a price for KL: see nash"
    policy = reference.log_softmax(-1)
    for _ in range(MOST):
        for _ in range(NEARER):
            policy, _ = mirror_prox(preference, policy, reference, beta, min(2 * beta, 1.0))
        found = policy
        for _ in range(STEPS):
            answer = (reference + against(preference, found) / beta).log_softmax(-1)
            if (answer - found).abs().max() < SETTLED:
                return answer
            slope = preference * found.exp()[..., None, :] / beta  # of the answer's logits
            slope = slope - (answer.exp()[..., None, :] @ slope)
            found = (found + torch.linalg.solve(torch.eye(slope.shape[-1]) - slope, answer - found)).log_softmax(-1)
    raise AssertionError(f"no equilibrium was found; beta {beta} is too small")


def exploitability(
    preference: Tensor, policy: Float[Tensor, "*#prompts Y"], reference: Float[Tensor, "*#prompts Y"], beta: float
) -> Float[Tensor, "*prompts"]:
    """How much more than 1/2 the best answer to the policy earns, at least 0; the duality gap is twice that.

    max_q J(q, pi) - 1/2; at beta 0 the best answer is a single action.
    """
    reference = reference.log_softmax(-1)
    won = against(preference, policy)
    if beta == 0:
        return won.amax(-1) - 0.5
    best = beta * (reference + won / beta).logsumexp(-1)
    return best + beta * divergence(policy, reference) - 0.5


def nash(preference: Float[Tensor, "Y Y"]) -> Float[Tensor, " Y"]:
    """Probabilities that no action beats more often than not, where KL costs nothing. One of them, if there are many.

    With payoffs P + 1, above 0: max sum w, (P + 1) w <= 1, w >= 0, by the simplex method with Bland's rule.
    """
    size = len(preference)
    table = np.zeros((size + 1, 2 * size + 1))  # rows: constraints, costs; columns: w, slack, right side
    table[:size, :size] = preference.double().numpy() + 1
    table[:size, size:-1], table[:size, -1], table[-1, :size] = np.eye(size), 1.0, -1.0
    basis = list(range(size, 2 * size))
    while (entering := np.flatnonzero(table[-1, :-1] < -1e-12)).size:
        column = int(entering[0])
        rises = table[:-1, column] > 1e-12
        ratios = np.where(rises, table[:-1, -1] / np.where(rises, table[:-1, column], 1.0), np.inf)
        tied = np.flatnonzero(ratios <= ratios.min() + 1e-12)
        row = int(min(tied, key=lambda i: basis[i]))
        table[row] /= table[row, column]
        others = np.arange(size + 1) != row
        table[others] -= table[others, column][:, None] * table[row]
        basis[row] = column
    found = np.zeros(2 * size)
    found[basis] = table[:-1, -1]
    return torch.from_numpy(found[:size] / found[:size].sum())
