"""Rows of a data set as the source of a run's experience."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import torch

from align.assembly_parts import Parts
from align.batches import Group
from align.data.prepare import default_cache
from align.data.store import Store
from align.errors import UserError, did_you_mean
from align.methods.base import Loss
from align.models.adapters import reference_kind
from align.models.save import fingerprint, settings_digest
from align.needs import empty_batch
from align.recipe import Recipe
from align.recipe_steps import total_rows
from align.training.build import autocast_of
from align.training.experience import ModelRole, Role
from align.training.metrics import Completion
from align.training.offline import Offline
from align.training.roles import cached
from align.training.samples import complete, distinct_prompts

OFTEN = 0.1  # of the steps


def offline_source(parts: Parts, sample: Sequence[Group], say: Callable[[str], Any]) -> Offline:
    """`sample` are the first rows, to try the method on."""
    recipe, store = parts.recipe, parts.splits.train
    check_metric(recipe, parts.reader.needs.batch.arrange(sample))
    for note in check_labels(recipe, store):
        say(note)
    mixture = parts.splits.mixture(recipe.training.seed)
    total = total_rows(recipe, len(store))

    def rows_of_step(step: int) -> list[Group]:
        return [store[int(i)] for i in mixture.rows_of_step(step, recipe.training.batch_size, total)]

    return Offline(
        trainee=parts.trainee, method=recipe.method, reader=parts.reader, roles=make_roles(parts, say),
        rows_of_step=rows_of_step, place_of={name: s.place for name, s in parts.stores.items()},
        portions={name: _portions(parts, name) for name in ("validation", "test")}, complete=_completions(parts),
    )  # fmt: skip


def _completions(parts: Parts) -> Callable[[int], list[Completion]]:
    """What completes a few prompts of the test split, or of the validation split where there is no other."""
    reader, logging = parts.reader, parts.recipe.logging
    store = parts.splits.test if len(parts.splits.test) else parts.splits.validation
    scalar = "scores" in reader.needs.live(reader.needs.learned()[0])
    rows = [] if scalar else [store[i] for i in range(min(len(store), 4 * logging.num_completions))]
    longest = parts.context - logging.max_completion_length
    prompts = [p for p in distinct_prompts(rows, logging.num_completions) if len(p) <= longest]

    def complete_all(step: int) -> list[Completion]:
        if not rows:
            return []
        limit = logging.max_completion_length
        return complete(parts.trainee.module, parts.tokenizer, prompts, limit, step, reader.world)

    return complete_all


def _portions(parts: Parts, split: str) -> list[list[Group]]:
    """The rows of a split in portions of the size of a training step; too few at the end join those before them."""
    store, count, size = parts.stores[split], parts.held_out(split), parts.recipe.training.batch_size
    portions = [[store[i] for i in range(a, min(a + size, count))] for a in range(0, count, size)]
    if len(portions) > 1 and len(portions[-1]) < parts.recipe.method.smallest_batch:
        last = portions.pop()
        portions[-1] += last
    return portions


def check_labels(recipe: Recipe, store: Store) -> list[str]:
    """What to say of verdicts of which one kind is rare; UserError where all of them are alike."""
    if "label" not in store.numbers:
        return []
    good = int(store.index["numbers"][:, store.numbers.index("label")].sum())
    counts = {"true": good, "false": len(store) - good}
    rare, common = sorted(counts, key=lambda kind: counts[kind])
    if not counts[rare]:
        cure = "add rows of the other kind, or name another column in data.columns.label"
        raise UserError(f"data.train: all {len(store)} rows have the label {common}: nothing to tell apart; {cure}")
    size = recipe.training.batch_size
    without = (1 - counts[rare] / len(store)) ** size
    if without <= OFTEN:
        return []
    finding = f"{counts[rare]} of {len(store)} rows have the label {rare}: about {without:.0%} of the steps have none"
    return [f"data.train: {finding}; raise training.batch_size ({size}), or add such rows"]


def check_metric(recipe: Recipe, sample: Sequence[Group]) -> None:
    """UserError where the metric that decides keep-best and early stopping is none that the method reports."""
    needs, name = recipe.method.needs(), recipe.training.metric_for_best_model
    widths = [max(len(g.members[i].completion) for g in sample) for i in range(len(needs.members))]
    members = zip(needs.members, widths, strict=True)
    zeros = {(m, c): torch.zeros(len(sample), width) for m, width in members for c in needs.stored(m)}
    known = dict.fromkeys(["loss", *_tried(recipe, empty_batch(needs, sample, zeros)).terms])
    if name not in known:
        there = f"{recipe.method_name} reports {', '.join(known)}"
        raise UserError(f"training.metric_for_best_model: no such metric: {name}; {there}.{did_you_mean(name, known)}")


def _tried(recipe: Recipe, batch: Any) -> Loss:
    """The loss of a method, which may be a user's own, on its first rows."""
    name = recipe.method_name
    try:
        method: Any = recipe.method
        found: object = method.loss(method.prepare(batch))
    except Exception as error:
        if ":" not in name:
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename}, line {last.lineno}"
        raise UserError(f"method {name}: {type(error).__name__} on the first rows: {error} ({where})") from error
    if not isinstance(found, Loss):
        raise UserError(f"method {name}: loss returned {type(found).__name__}, not align.methods.base.Loss")
    return found


def make_roles(parts: Parts, say: Callable[[str], Any]) -> dict[str, dict[str, Role]]:
    """Who makes each stored column, for each split. A role that the method does not need is not loaded."""
    recipe, reader = parts.recipe, parts.reader
    wanted = reader.needs.roles()
    shared: dict[str, Role] = {"old": ModelRole(parts.trainee.module)} if "old" in wanted else {}
    if "ref" not in wanted:
        return dict.fromkeys(parts.stores, shared)
    scorer: Any = parts.reference()
    if reference_kind(recipe.model) != "cached":
        return dict.fromkeys(parts.stores, shared | {"ref": ModelRole(scorer)})
    if any(len(store[0].members) < len(reader.needs.members) for store in parts.stores.values() if len(store)):
        raise UserError(
            f"model.reference: cached, but {recipe.method_name} scores answers to other rows' prompts, "
            "which no cache can hold; use copy"
        )
    inner = reader.world.unwrap(scorer)
    precision = autocast_of(recipe.training, reader.world.device)
    weights = fingerprint(inner.model)
    computed = [weights, settings_digest(inner.model), reader.layout, str(precision), kernel_name(inner)]
    made: dict[str, dict[str, Role]] = {}
    for name, store in parts.stores.items():
        key = _digest([store.fingerprint, *computed])
        path = default_cache() / "logps" / f"ref-{key}.f32"
        made[name] = shared | {"ref": cached(path, scorer, reader, store, recipe.training.batch_size, say)}
    return made


def kernel_name(scorer: Any) -> str:
    return f"{scorer.kernel.attention}-{next(scorer.parameters()).dtype}"


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
