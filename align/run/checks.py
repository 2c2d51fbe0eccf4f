"""What a run can see of its prepared data before it has weights, and refuses then; `align check --all` looks, too."""

from __future__ import annotations

import dataclasses
import functools
import heapq
from collections.abc import Callable
from typing import Any

import numpy as np

from align.batches import Group
from align.data.hints import COLUMN, hints_of
from align.data.prepare import Splits
from align.data.store import Store
from align.errors import Findings, RunError, UserError
from align.methods.base import OnlineMethod
from align.models.adapters import reference_kind
from align.needs import TRUSTED
from align.recipe.load import Recipe
from align.recipe.metric import BETTER, METRIC, no_such, reported, undecided
from align.recipe.roles import METRICS
from align.rewards.columns import Finding, misfit, misfits
from align.rewards.verdicts import make_reward_functions
from align.rollout.hints import HintColumn
from align.run.parts import hint_column
from align.scoring.role_table import loaded
from align.sources.rows import prompts_of
from align.training.build import SAMPLE
from align.training.settings import TrainingSection

OFTEN = 0.1  # of the steps
LONGEST = 16  # rows whose hints are tokenized before training, to see that they fit


def look_before(recipe: Recipe, splits: Splits, tokenizer: Any, context: int) -> list[str]:
    """What to say of the data; Mistakes with all that they are refused for. `context`: positions that the model has."""
    looks: list[Callable[[], list[str] | None]] = [
        functools.partial(check_held_out, recipe, splits),
        functools.partial(check_reference, recipe, splits),
        functools.partial(check_trusted, recipe, splits),
    ]
    if isinstance(recipe.method, OnlineMethod):
        looks += [
            functools.partial(check_room, recipe, splits, context),
            functools.partial(check_columns, recipe, splits),
        ]
        if recipe.method.needs().batch.hinted:
            column = hint_column(recipe, splits, tokenizer, context)
            looks.append(functools.partial(check_hints, recipe, splits.train, column))
    else:
        looks += [functools.partial(check_metric, recipe, splits), functools.partial(check_labels, recipe, splits)]
    notes: list[str] = []
    found = Findings()
    for look in looks:
        with found:
            notes += look() or []
    found.tell()
    return notes


def check_held_out(recipe: Recipe, splits: Splits) -> list[str]:
    """What to say of splits that were asked for and have no row. UserError where evaluations are to be made on one."""
    training, data = recipe.training, recipe.data
    held_out = {"validation": splits.validation, "test": splits.test}
    empty = [name for name, store in held_out.items() if getattr(data, name) and not len(store)]
    asked = ("load_best_model_at_end", "early_stopping_patience", "eval_steps")
    wants = [f"training.{key}" for key in asked if getattr(training, key)]
    if "validation" in empty and wants:
        finding = f"data.validation: no row is held out by {data.validation} ({len(splits.train)} are trained on)"
        raise UserError(
            f"{finding}, which {', '.join(wants)} needs; name a larger share or a source, or remove the key"
        )
    return [f"{name}: no row is held out by data.{name}: {getattr(data, name)}" for name in empty]


def check_reference(recipe: Recipe, splits: Splits) -> None:
    """UserError where the reference cannot be kept as the recipe asks."""
    if not loaded(recipe.method, recipe.model) or reference_kind(recipe.model) != "cached":
        return
    members = len(recipe.method.needs().members)
    if any(len(store[0].members) < members for store in splits.stores.values() if len(store)):
        raise UserError(
            f"model.reference: cached, but {recipe.method_name} scores answers to other rows' prompts, "
            "which no cache can hold; use copy"
        )


def check_trusted(recipe: Recipe, splits: Splits) -> list[str]:
    """What to say of the sources whose weights are learned. UserError where a trusted row stands in another set, or a
    source or the trusted set has no row left."""
    if recipe.method.levels() is None:
        return []
    trusted, sizes = splits.trusted, splits.train.counts.sources
    if trusted is None or not len(trusted):
        raise UserError(f"data.trusted: {recipe.data.trusted}: no row is left; look at data.max_length and bad_rows")
    if empty := [name for name, rows in sizes.items() if not rows]:
        raise UserError(f"data.train: {', '.join(empty)}: no row is left, so there is nothing to weigh; remove it")
    if taken := [name for name in splits.names if name in METRICS]:
        raise UserError(f"data.train: a source is called {taken[0]}, as a metric is; give it another `name`")
    known = {_tokens(trusted[i]): i for i in range(len(trusted))}
    for name, store in splits.stores.items():
        shared = np.isin(store.index["key"], trusted.index["key"]) if name != TRUSTED else np.zeros(0, dtype=bool)
        for row in np.flatnonzero(shared).tolist():
            if (twin := known.get(_tokens(store[row]))) is not None:
                both = f"{trusted.place(twin)} and {store.place(row)}, of data.{name}, are the same"
                raise UserError(f"data.trusted: {both}; a row that judges the sources may be in none of them")
    one = "data.train has one source, whose weight is 1 whatever is learned; list several"
    return [one] if len(sizes) == 1 else []


def _tokens(group: Group) -> bytes:
    member = group.members[0]
    return b"".join(part.tobytes() + b"|" for part in (member.prompt, member.completion))


# ---- rows that are there before -------------------------------------------------------------------------------------


def check_labels(recipe: Recipe, splits: Splits) -> list[str]:
    """What to say of verdicts of which one kind is rare; UserError where all of them are alike."""
    store = splits.train
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


def check_metric(recipe: Recipe, splits: Splits) -> None:
    """UserError where the metric that decides keep-best and early stopping is none that the method reports."""
    sample = [splits.train[i] for i in range(min(SAMPLE, len(splits.train)))]
    known = reported(recipe.method, recipe.method_name, sample)
    if finding := no_such(recipe.training.metric_for_best_model, known, f"{recipe.method_name} reports"):
        raise UserError(f"{METRIC}: {finding}")
    if recipe.training.greater_is_better is None and not known[recipe.training.metric_for_best_model].better:
        raise UserError(f"{BETTER}: {undecided(recipe.training.metric_for_best_model)}")


def with_direction(recipe: Recipe, splits: Splits) -> TrainingSection:
    """The section with `greater_is_better`: what a method from outside says of its metric on the first rows."""
    training = recipe.training
    if training.greater_is_better is not None:
        return training
    sample = [splits.train[i] for i in range(min(SAMPLE, len(splits.train)))]
    found = reported(recipe.method, recipe.method_name, sample)[training.metric_for_best_model]
    return dataclasses.replace(training, greater_is_better=found.better == "larger")


# ---- prompts that the policy answers --------------------------------------------------------------------------------


def check_room(recipe: Recipe, splits: Splits, context: int) -> None:
    """UserError where a prompt leaves no room for its completion in the model's context."""
    new = recipe.rollout.max_completion_length
    for name, store in splits.stores.items():
        longest = int(np.max(store.prompt_lengths, initial=0))
        if longest + new > context:
            row = int(np.argmax(store.prompt_lengths))
            room = context - new
            raise UserError(
                f"data.{name}: a prompt of {longest} tokens ({store.place(row)}) and rollout.max_completion_length "
                f"{new} are more than the model's context of {context}; "
                + (f"set data.max_length={room} or less, or a" if room > 0 else "set a")
                + " smaller rollout.max_completion_length"
            )


def check_columns(recipe: Recipe, splits: Splits) -> None:
    """Mistakes where a reward function asks for columns that the rows of a split do not have."""
    functions = make_reward_functions(recipe.reward).functions
    findings: dict[str, Finding] = {n: functools.partial(misfit, f) for n, f in functions.items()}
    found = Findings()
    for split, store in splits.stores.items():
        wrong = misfits(findings, (store.extras(row) for row in range(len(store))), f"data.{split}")
        found.messages += [f"reward {name}: {text}" for name, text in wrong.items()]
    found.tell()


def check_hints(recipe: Recipe, store: Store, column: HintColumn) -> None:
    """UserError where the data have no hints, or some that cannot be told."""
    lengths: dict[int, int] = {}
    for row in range(len(store)):
        try:
            texts = hints_of(columns := store.extras(row))
        except ValueError as error:
            raise UserError(f"data.train: {store.place(row)}: {error}") from None
        if texts:
            lengths[row] = len(str(columns["prompt"])) + max(map(len, texts))
    if not lengths:
        raise UserError(
            f"data.train: no row has a column {COLUMN}, which {recipe.method.name} tells where completions fail: "
            f"a list of texts, from the least hint to the most. There are {', '.join(store.extras(0))}"
        )
    for row in heapq.nlargest(LONGEST, lengths, key=lambda row: lengths[row]):
        (prompt,) = prompts_of(store, [row], range(1))
        try:
            for hint in range(column.count(prompt)):
                column.told(prompt, hint + 1)
        except RunError as error:
            raise UserError(str(error)) from None
