"""Rows of a data set as the source of a run's experience."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from align.batches import Group
from align.data.mixture import Mixture
from align.data.prepare import default_cache
from align.models.adapters import reference_kind
from align.models.save import fingerprint, settings_digest
from align.recipe.steps import total_rows
from align.rollout.samples import complete, distinct_prompts
from align.run.parts import Parts
from align.runfolder.logs import Completion
from align.scoring.experience import ModelRole, Role
from align.scoring.role_table import POLICY, loaded
from align.scoring.roles import cached
from align.sources.offline import Offline
from align.sources.rows import RowsOfSteps
from align.sources.two_levels import TwoLevels
from align.training.build import autocast_of


def offline_source(parts: Parts, say: Callable[[str], Any]) -> Offline:
    recipe, store = parts.recipe, parts.splits.train
    rows = RowsOfSteps(
        store=store, mixture=parts.splits.mixture(recipe.training.seed), batch_size=recipe.training.batch_size,
        total=total_rows(recipe, len(store)), with_source=parts.team.sources is not None,
    )  # fmt: skip
    made: dict[str, Any] = {
        "trainee": parts.trainee, "method": recipe.method, "batching": parts.batching, "roles": make_roles(parts, say),
        "place_of": {name: s.place for name, s in parts.stores.items()},
        "portions": {name: _portions(parts, name) for name in ("validation", "test")},
        "complete": _completions(parts), "num_minibatches": recipe.training.num_minibatches,
    }  # fmt: skip
    if parts.team.sources is None:
        return Offline(rows_of_step=rows, **made)
    return TwoLevels(rows_of_step=rows, trusted_of_step=_trusted_rows(parts), sources=parts.team.sources, **made)


def _trusted_rows(parts: Parts) -> RowsOfSteps:
    """The rows of the trusted set that a step has: all of them, shuffled, before any comes again."""
    store, levels = parts.splits.trusted, parts.recipe.method.levels()
    assert levels is not None
    assert store is not None
    mixture = Mixture(sizes=(len(store),), weights=(1.0,), seed=parts.recipe.training.seed)
    return RowsOfSteps(store=store, mixture=mixture, batch_size=levels.trusted_rows)


def _completions(parts: Parts) -> Callable[[int], list[Completion]]:
    """What completes a few prompts of the test split, or of the validation split where there is no other."""
    batching, logging = parts.batching, parts.recipe.logging
    store = parts.splits.test if len(parts.splits.test) else parts.splits.validation
    scalar = "scores" in batching.needs.live(batching.needs.learned()[0])
    rows = [] if scalar else [store[i] for i in range(min(len(store), 4 * logging.num_completions))]
    longest = parts.context - logging.max_completion_length
    prompts = [p for p in distinct_prompts(rows, logging.num_completions) if len(p) <= longest]

    def complete_all(step: int) -> list[Completion]:
        if not rows:
            return []
        limit = logging.max_completion_length
        return complete(parts.trainee.module, parts.tokenizer, prompts, limit, step, batching.world)

    return complete_all


def _portions(parts: Parts, split: str) -> list[list[Group]]:
    """The rows of a split in portions of the size of a training step; too few at the end join those before them."""
    store, count, size = parts.stores[split], parts.held_out(split), parts.recipe.training.batch_size
    portions = [[store[i] for i in range(a, min(a + size, count))] for a in range(0, count, size)]
    if len(portions) > 1 and len(portions[-1]) < parts.recipe.method.smallest_batch:
        last = portions.pop()
        portions[-1] += last
    return portions


def make_roles(parts: Parts, say: Callable[[str], Any]) -> dict[str, dict[str, Role]]:
    """Who makes each stored column, for each split. A role that the method does not need is not loaded."""
    recipe = parts.recipe
    own: dict[str, Role] = {POLICY: ModelRole(parts.trainee.module)} if POLICY in parts.batching.needs.roles() else {}
    made = {split: dict(own) for split in parts.stores}
    for roles in made.values():
        roles |= {r: ModelRole(module) for r, module in parts.copies.items() if r in parts.batching.needs.roles()}
    for role in loaded(recipe.method, recipe.model):
        scorer = parts.frozen_model(role)
        cached_ones = _cached(parts, role, scorer, say) if reference_kind(recipe.model) == "cached" else {}
        for split, roles in made.items():
            roles[role] = cached_ones.get(split) or ModelRole(scorer)
    return made


def _cached(parts: Parts, role: str, scorer: Any, say: Callable[[str], Any]) -> dict[str, Role]:
    """What the model says of every split, computed once."""
    recipe, batching = parts.recipe, parts.batching
    inner = batching.world.unwrap(scorer)
    precision = autocast_of(recipe.training, batching.world.device)
    weights = fingerprint(inner.model)
    computed = [weights, settings_digest(inner.model), batching.layout, str(precision), kernel_name(inner)]
    made: dict[str, Role] = {}
    for name, store in parts.stores.items():
        key = _digest([store.fingerprint, *computed])
        path = default_cache() / "logps" / f"{role}-{key}.f32"
        made[name] = cached(path, scorer, batching, store, recipe.training.batch_size, say)
    return made


def kernel_name(scorer: Any) -> str:
    return f"{scorer.kernel.attention}-{next(scorer.parameters()).dtype}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
