"""Which layout a run uses: the cheapest of those that this very model gets right.

What a model accepts is measured, not looked up: at the start it scores a few dozen random tokens in each layout, and a
layout whose {asked.column} differ from those of one sequence at a time is not used, aloud.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from align.batches import Tokens
from align.data.forest import RowLayout, lay_out
from align.training.experience import Columns
from align.training.plan import GroupShape, Limits, filled_rows, make_plan, num_tokens
from align.training.score import scatter

TOLERANCE = {None: 1e-4, torch.bfloat16: 0.15}  # nats per token, between layouts; autocast rounds more
PROBE_LENGTHS = ((9, (7, 3)), (4, (11, 6)))  # prompt, completions; unequal on purpose
WORTH = 0.97  # another layout than padded must cost at most this share of it


@dataclass(frozen=True)
class Cost:
    """What a model pays, in multiply-adds."""

    per_token: float  # parameters of the blocks
    per_area: float  # a query attending to a key: 2 * hidden size * layers


@dataclass(frozen=True)
class Probe:
    """How a model is asked: its vocabulary, the column it makes, where and how exactly it computes."""

    vocab_size: int
    column: str  # logps, or scores of a model with a scalar head
    autocast: torch.dtype | None
    device: torch.device


def accepted(model: Columns, asked: Probe) -> dict[RowLayout, str]:
    """Layout -> empty where it is right, else what is wrong with it."""
    groups = probe(asked.vocab_size)
    # alone is the truth: no layout, no padding, nothing but the sequence
    truth = torch.cat([_column(model, [[member]], "padded", asked) for group in groups for member in group])
    found: dict[RowLayout, str] = {}
    for layout in ("padded", "packed", "shared"):
        try:
            gap = (_column(model, groups, layout, asked) - truth).abs().max().item()
        except (TypeError, ValueError, RuntimeError, IndexError, NotImplementedError, KeyError, AttributeError) as error:
            found[layout] = f"refused by the model ({type(error).__name__}: {str(error)[:120]})"
            continue
        limit = TOLERANCE.get(asked.autocast, 0.15)
        found[layout] = "" if gap <= limit else f"{asked.column} differ by {gap:.2g} (limit {limit:g})"
    return found


def probe(vocab_size: int) -> list[list[Tokens]]:
    """Two groups of random tokens."""
    draw = np.random.default_rng(0)

    def tokens(length: int) -> np.ndarray:
        return draw.integers(0, vocab_size, length).astype(np.int32)

    groups: list[list[Tokens]] = []
    for prompt_length, lengths in PROBE_LENGTHS:
        prompt = tokens(prompt_length)
        groups.append([Tokens(prompt, tokens(n), np.ones(n, dtype=bool)) for n in lengths])
    return groups


def _column(model: Columns, groups: Sequence[Sequence[Tokens]], layout: RowLayout, asked: Probe) -> torch.Tensor:
    rows = lay_out(groups, layout).to(asked.device)
    with torch.no_grad():
        made = model(rows, (asked.column,), 1)[asked.column].float()
    if asked.column == "scores":
        return made.cpu()
    longest = max(len(m.completion) for g in groups for m in g)
    kept = scatter(torch.ones_like(made), rows, (len(rows), longest)) > 0
    return scatter(made, rows, (len(rows), longest))[kept].cpu()


def cheapest(
    shapes: dict[RowLayout, Sequence[GroupShape]], limits: Limits, cost: Cost, allowed: Sequence[RowLayout]
) -> RowLayout:
    """The layout of least estimated cost over a sample of the data; padded unless another is clearly cheaper."""
    costs = {layout: estimate(shapes[layout], layout, limits, cost) for layout in allowed}
    best = min(costs, key=lambda layout: costs[layout])
    return best if costs[best] <= WORTH * costs["padded"] else "padded"


def estimate(shapes: Sequence[GroupShape], layout: RowLayout, limits: Limits, cost: Cost) -> float:
    """Multiply-adds of one forward pass over these groups, padding included. A dense mask pays length squared."""
    total = 0.0
    for micro in (m for rank in make_plan(shapes, layout, limits).ranks for m in rank if m.groups):
        rows = filled_rows([shapes[i] for i in micro.groups], layout, limits.row_tokens)
        width = max(sum(map(num_tokens, row)) for row in rows)
        area = len(rows) * width**2 * (0.5 if layout == "padded" else 1.0)  # plain causal skips the upper half
        total += len(rows) * width * cost.per_token + area * cost.per_area
    return total


def choose(wanted: str, right: dict[RowLayout, str], cheapest_of: Callable[[Sequence[RowLayout]], RowLayout], say: Callable[[str], Any]) -> RowLayout:
    """`auto` takes the cheapest right one; a layout asked for by name that is wrong becomes padded. Both aloud."""
    for layout, finding in right.items():
        if finding and wanted in (layout, "auto"):
            say(f"layout {layout}: {finding}; not used")
    allowed = [layout for layout, finding in right.items() if not finding or layout == "padded"]
    if wanted != "auto":
        return wanted if wanted in allowed else "padded"  # type: ignore[return-value]
    return cheapest_of(allowed)
