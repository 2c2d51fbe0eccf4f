"""What a model must beat: rankers of pairs that know nothing of language.

`bag_of_words` scores an answer by the sum of one weight per token, fitted by logistic regression on the train split,
its strength of regularisation chosen on the validation split, and told on the test split like the model.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from align.data.store import Store
from align.training.evaluate import Estimate, ratio

STRENGTHS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)  # of the squared norm of the weights
MAX_ROWS = 20_000  # of the train split; a bag of words learns nothing more from further ones
MAX_ITERATIONS = 60


def bag_of_words(train: Store, validation: Store, test: Store) -> tuple[Estimate, list[float]]:
    """Accuracy on the test pairs (a tie is a miss), and each row's 0 or 1. No validation pairs: the middle strength."""
    size = 1 + max(int(store.tokens.max(initial=0)) for store in (train, validation, test))
    rows = _differences(train, size, MAX_ROWS)
    strengths = STRENGTHS if len(validation) else STRENGTHS[len(STRENGTHS) // 2 : len(STRENGTHS) // 2 + 1]
    fits = [_fit(rows, strength) for strength in strengths]
    held_out = _differences(validation, size, MAX_ROWS) if len(validation) else rows
    best = max(fits, key=lambda weights: _hits(held_out, weights).mean().item())
    hits = _hits(_differences(test, size, len(test)), best)
    return ratio(hits.double(), torch.ones(len(hits), dtype=torch.float64)), hits.tolist()


def _differences(store: Store, size: int, limit: int) -> Tensor:
    """(rows, vocabulary) sparse: root counts of each token in the chosen answer less those in the rejected one."""
    indices: list[np.ndarray] = []
    values: list[np.ndarray] = []
    count = min(len(store), limit)
    for i in range(count):
        chosen, rejected = (np.bincount(m.completion, minlength=size) for m in store[i].members)
        change = np.sqrt(chosen) - np.sqrt(rejected)  # the square root tames words that are repeated
        tokens = np.flatnonzero(change)
        indices.append(np.stack([np.full(len(tokens), i), tokens]))
        values.append(change[tokens])
    at = torch.from_numpy(np.concatenate(indices, axis=1))
    counts = torch.from_numpy(np.concatenate(values)).float()
    return torch.sparse_coo_tensor(at, counts, (count, size), check_invariants=False).coalesce()


def _fit(rows: Tensor, strength: float) -> Tensor:
    weights = torch.zeros(rows.shape[1], 1, requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=MAX_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        value = -F.logsigmoid(torch.sparse.mm(rows, weights)).mean() + strength * weights.square().sum()
        value.backward()
        return value

    solver.step(loss)
    return weights.detach()


def _hits(rows: Tensor, weights: Tensor) -> Tensor:
    return (torch.sparse.mm(rows, weights).squeeze(-1) > 0).float()
