"""`align data`: rows as the model will see them, with what is learned of them and how long they are.

Prepares the data into the cache, as a run does, and needs the tokenizer alone: no weights are read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rich.console import Console

from align.cli.painted import LEGEND, painted
from align.data.prepare import Splits
from align.data.store import Store
from align.data.text.describe import describe
from align.errors import UserError
from align.models.tokenizer import load_tokenizer
from align.monitors.trackers import no_telemetry
from align.recipe.load import Recipe
from align.run.assemble import prepare_data
from align.run.parts import head_of


def show(recipe: Recipe, console: Console, *, split: str, first: int, count: int) -> None:
    """Prints rows `first` (from 1) and those after it, and what became of all. UserError for a split that has none."""
    no_telemetry()
    tokenizer = load_tokenizer(recipe.model, head_of(recipe))
    splits = prepare_data(recipe, tokenizer)
    store = splits.stores.get(split)
    if store is None or not len(store):
        there = ", ".join(name for name, found in splits.stores.items() if len(found))
        raise UserError(f"--split {split}: has no row; there are {there}")
    if first > len(store):
        raise UserError(f"--row {first}: {split} has {len(store)} rows")
    for note in (*splits.remade, *splits.notes):
        console.print(f"note: {note}", markup=False)
    for line in lengths(splits):
        console.print(line, markup=False, highlight=False)
    console.print(f"\n{LEGEND}")
    for i in range(first - 1, min(first - 1 + count, len(store))):
        for member, seen in zip(recipe.method.needs().members, describe(store, tokenizer, i), strict=False):
            learned = sum(token.part == "learned" for token in seen)
            console.print(f"\n{store.place(i)}  {member}: {len(seen)} tokens, {learned} learned", markup=False)
            console.print(painted(seen, coloured=console.is_terminal))


def lengths(splits: Splits) -> Iterator[str]:
    """A line for each split: rows, those that were dropped or cut, and tokens of a row."""
    for name, store in splits.stores.items():
        if len(store):
            counts = store.counts
            became = {"unusable": counts.bad, "too long": counts.overlong, "shortened": counts.shortened}
            told = "".join(f", {number} {what}" for what, number in became.items() if number)
            yield f"{name}: {len(store)} rows of {counts.read} read{told}; tokens of a row: {_quantiles(store)}"


def _quantiles(store: Store) -> str:
    whole = store.prompt_lengths + store.completion_lengths.max(axis=1)
    half, most, longest = (int(q) for q in np.quantile(whole, (0.5, 0.9, 1.0), method="higher"))
    return f"half up to {half}, 90 % up to {most}, the longest {longest}"
