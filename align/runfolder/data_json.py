"""`data.json`: what became of the rows, and how long they are; what the report draws."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from align.data.prepare import Splits
from align.data.store import Store

BINS = 24


def describe_data(splits: Splits) -> dict[str, Any]:
    """Counts and length histograms of each split, what the reader was told, and the template that the model learns."""
    found = {name: _describe(name, store) for name, store in splits.stores.items() if len(store)}
    return {"splits": found, "notes": list(splits.notes), "chat_template": splits.chat_template}


def _describe(name: str, store: Store) -> dict[str, Any]:
    counts = asdict(store.counts)
    dropped = {"cannot be used": counts["bad"], "longer than max_length": counts["overlong"]}
    whole = store.prompt_lengths + store.completion_lengths.max(axis=1)
    return {
        "split": name,
        "source": ", ".join(counts["sources"]),
        "read": counts["read"],
        "kept": len(store),
        "dropped": {reason: rows for reason, rows in dropped.items() if rows},
        "shortened": counts["shortened"],
        "prompt_lengths": histogram(store.prompt_lengths),
        "completion_lengths": histogram(store.completion_lengths.ravel()),
        "lengths": histogram(whole),
    }


def histogram(lengths: np.ndarray) -> dict[str, list[int]]:
    """Bin edges and counts; whole tokens."""
    top = int(lengths.max(initial=1))
    edges = np.unique(np.linspace(0, top + 1, BINS + 1).astype(int))
    counts, _ = np.histogram(lengths, bins=edges)
    return {"edges": edges.tolist(), "counts": counts.tolist()}
