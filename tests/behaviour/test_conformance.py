"""One table, many laws: what every method must do on a real, tiny model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bench_of_steps import VOCABULARY, random_groups, rig

from align.batches import Group, Tokens
from align.lab import echo
from align.methods.base import OnlineMethod, find_method, method_names
from align.scoring.layout import lay_out

RATE = {"reward_model": 1e-2}  # a head that starts near zero
STEPS = 60


@pytest.mark.parametrize("name", method_names())
def test_gradients_are_finite_and_none_is_on_padding(name: str):
    """The embedding of a token that stands only in padding, or only after the last one read, gets no gradient."""
    method = find_method(name)()
    groups = [_without(g, token=0) for g in random_groups(method, 5)]
    found = rig(method).gradients(groups)
    assert all(torch.isfinite(g).all() for g in found.values())
    assert any(g.abs().sum() > 0 for g in found.values())
    table = next(g for n, g in found.items() if n.endswith("embed_tokens.weight"))
    rows = lay_out([g.members for g in groups], "padded")
    assert (rows.input_ids == 0).any(), "nothing is padded, so nothing is shown"
    assert table[0].abs().sum() == 0
    present = np.unique(np.concatenate([np.concatenate([m.prompt, m.completion]) for g in groups for m in g.members]))
    absent = [i for i in range(VOCABULARY) if i not in present]
    assert table[absent].abs().sum() == 0


@pytest.mark.parametrize("name", method_names())
def test_under_autocast_a_step_is_that_of_float32_but_for_rounding(name: str):
    method = find_method(name)()
    groups = random_groups(method, 5)
    exact, rounded = (rig(method, "shared", autocast=precision) for precision in (None, torch.bfloat16))
    wanted, found = exact.gradients(groups), rounded.gradients(groups)
    assert found.keys() == wanted.keys()
    assert all(g.dtype == torch.float32 and torch.isfinite(g).all() for g in found.values())
    ours, theirs = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (found, wanted))
    assert torch.cosine_similarity(ours, theirs, dim=0) > 0.95
    assert 0 < (ours - theirs).norm() < 0.3 * theirs.norm()


@pytest.mark.parametrize("name", method_names())
def test_tokens_that_the_policy_did_not_write_are_not_learned(name: str):
    """Their ids matter as context, their own log-probabilities do not: no logit is made for them."""
    method = find_method(name)()
    needs = method.needs()
    groups = needs.batch.arrange(random_groups(method, 5))
    rows = lay_out([[g.members[list(needs.members).index(m)] for m in needs.learned()] for g in groups], "shared")
    kept = sum(int(g.members[list(needs.members).index(m)].mask.sum()) for g in groups for m in needs.learned())
    assert len(rows.target) == kept


@pytest.mark.parametrize("name", [n for n in method_names() if not issubclass(find_method(n), OnlineMethod)])
def test_every_offline_method_learns_a_tiny_known_world(name: str):
    """Echo, 60 steps: then each right answer is ranked above each wrong one, by what the method trains."""
    method = find_method(name)()
    kind = method.needs().batch.kind
    bench = rig(method, "shared", vocabulary=echo.VOCABULARY, rate=RATE.get(name, 1e-2))
    before = _ranked(bench)
    for step in range(STEPS):
        bench.step(echo.rows(kind, 32, seed=step), rate=RATE.get(name, 1e-2))
    after = _ranked(bench)
    assert before < 0.8, "the world was known before training"
    assert after == 1.0


def _ranked(bench: Any) -> float:
    """Share of (right, wrong) pairs that are in order: by the scalar head, else by the likelihood of the answer."""
    pairs = echo.pairs_to_rank()
    column = next(c for c in next(iter(bench.batching.needs.live_columns().values())) if c in ("logps", "scores"))
    rows = lay_out(pairs, "padded")
    with torch.no_grad():
        made = bench.trainee.module(rows, (column,), 1)[column]
    if column == "logps":
        made = torch.zeros(len(rows)).index_add(0, rows.origin[0], made)
    return echo.accuracy(made[0::2].tolist(), made[1::2].tolist())


def _without(group: Group, token: int) -> Group:
    def change(ids: np.ndarray) -> np.ndarray:
        return np.where(ids == token, token + 1, ids).astype(np.int32)

    members = tuple(Tokens(change(m.prompt), change(m.completion), m.mask) for m in group.members)
    return Group(members, group.row, group.index)
