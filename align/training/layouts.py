"""Which layout a run uses: the cheapest of those that this very model gets right.

What a model accepts is measured, not looked up: at the start it scores random tokens in each layout, and a layout that
differs from one sequence at a time is not used, aloud. Three things make the measure able to fail: what the prompts
change must be far more than rounding; a window of attention, which in real models is longer than any probe, is made
short for it; and the longest sequence of the data is tried as well, for whatever else depends on length.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from align.batches import Tokens
from align.data.forest import RowLayout, Rows, lay_out
from align.models.parts import unwrapped
from align.training.experience import Columns
from align.training.plan import GroupShape, Limits, filled_rows, make_plan, num_tokens
from align.training.score import Scorer, scatter

LAYOUTS: tuple[RowLayout, ...] = ("padded", "packed", "shared")
TOLERANCE = {None: 1e-4, torch.float32: 1e-4}  # nats per token, between layouts; None is float32 without autocast
LOOSE = 0.15  # the same for shorter formats, which round more
BLIND = 0.25  # of what the prompts change: a gap above this share is not rounding, whatever the tolerance
PROBE_LENGTHS = ((9, (7, 3)), (4, (11, 6)))  # prompt, completions; unequal on purpose
PROBE_WINDOW = 5  # shorter than these sequences, and than the way from a second completion back to its prompt
LONG_COMPLETIONS = (8, 5)
WORTH = 0.97  # another layout than padded must cost at most this share of it
REFUSALS = (
    TypeError, ValueError, RuntimeError, IndexError, NotImplementedError, KeyError, AttributeError, AssertionError,
)  # fmt: skip


@dataclass(frozen=True)
class Cost:
    """What a model pays, in multiply-adds."""

    per_token: float  # parameters of the blocks
    per_area: float  # a query attending to a key: 2 * hidden size * layers
    block: int = 0  # side of the blocks that attention leaves out where nothing is visible; 0: it leaves out none


@dataclass(frozen=True)
class Probe:
    """How a model is asked: its vocabulary, the column it makes, in which precision and where it computes."""

    vocab_size: int
    column: str  # logps, or scores of a model with a scalar head
    precision: torch.dtype | None
    device: torch.device
    layouts: tuple[RowLayout, ...] = LAYOUTS
    longest: int = 0  # tokens of the longest sequence of the data


def measured(module: Any, scorer: Scorer, asked: Probe) -> dict[RowLayout, str]:
    """`accepted`, with the model's own window and with one that the probe can see. `scorer` is inside `module`.

    Without dropout, which would make any two passes differ.
    """
    was_training = module.training
    module.eval()
    try:
        return _measured(module, scorer, asked)
    finally:
        module.train(was_training)


def _measured(module: Columns, scorer: Scorer, asked: Probe) -> dict[RowLayout, str]:
    found: dict[RowLayout, str] = accepted(module, asked)
    if scorer.windows.window is not None and scorer.windows.window > PROBE_WINDOW:
        with narrowed(scorer, PROBE_WINDOW):
            narrow = accepted(module, dataclasses.replace(asked, longest=0))
        found = {name: finding or narrow[name] for name, finding in found.items()}
    if scorer.windows.known:
        return found
    unknown = "its layers do more than a mask can say"
    return {name: finding or ("" if name == "padded" else unknown) for name, finding in found.items()}


@contextmanager
def narrowed(scorer: Scorer, window: int) -> Iterator[None]:
    """The model, and our masks for it, with another window. A model that does not follow will differ."""
    config, windows = unwrapped(scorer.model).config.get_text_config(), scorer.windows
    config.sliding_window = window
    scorer.windows = dataclasses.replace(windows, window=window)
    try:
        yield
    finally:
        config.sliding_window, scorer.windows = windows.window, windows


def accepted(model: Columns, asked: Probe) -> dict[RowLayout, str]:
    """Layout -> empty where it is right, else what is wrong with it."""
    groups = probe(asked.vocab_size)
    limit = TOLERANCE.get(asked.precision, LOOSE)
    strict = limit if asked.layouts == ("padded",) else min(limit, BLIND * _worth_of_prompts(model, groups, asked))
    limits: dict[RowLayout, float] = {name: limit if name == "padded" else strict for name in asked.layouts}
    found = _findings(model, groups, asked, limits)
    if asked.longest > max(map(len, groups[0])):
        length = asked.longest - max(LONG_COMPLETIONS)
        long = [_group(np.random.default_rng(1), asked.vocab_size, max(length, 1), LONG_COMPLETIONS)]
        found |= _findings(model, long, asked, {name: limits[name] for name in found if not found[name]})
    return found


def _findings(
    model: Columns, groups: Sequence[Sequence[Tokens]], asked: Probe, limits: dict[RowLayout, float]
) -> dict[RowLayout, str]:
    # alone is the truth: no layout, no padding, nothing but the sequence
    truth = torch.cat([_column(model, lay_out([[m]], "padded"), asked) for group in groups for m in group])
    found: dict[RowLayout, str] = {}
    for layout, limit in limits.items():
        # A long group is shared in one row, but packed one sequence to a row, which is all that memory is sure to hold.
        laid = groups if layout == "shared" or len(groups) > 1 else [[m] for group in groups for m in group]
        try:
            gap = (_column(model, lay_out(laid, layout), asked) - truth).abs().max().item()
        except REFUSALS as error:
            found[layout] = f"refused by the model ({type(error).__name__}: {str(error)[:120]})"
            continue
        length = max(len(m) for group in groups for m in group)
        wrong = f"{asked.column} differ by {gap:.2g} at {length} tokens (limit {limit:.2g})"
        found[layout] = "" if gap < limit else wrong
        if limit == 0:
            found[layout] = f"{asked.column} are the same for any prompt, so nothing can be measured"
    return found


def _worth_of_prompts(model: Columns, groups: Sequence[Sequence[Tokens]], asked: Probe) -> float:
    """How far the column moves when prompts are cut to their last token, as by a mask that hides them."""
    moves: list[float] = []
    for member in (m for group in groups for m in group):
        cut = dataclasses.replace(member, prompt=member.prompt[-1:])
        whole, less = (_column(model, lay_out([[m]], "padded"), asked) for m in (member, cut))
        moves.append((whole - less).abs().max().item())
    return max(moves)


def probe(vocab_size: int) -> list[list[Tokens]]:
    """Two groups of random tokens."""
    draw = np.random.default_rng(0)
    return [_group(draw, vocab_size, prompt, completions) for prompt, completions in PROBE_LENGTHS]


def _group(draw: np.random.Generator, vocab_size: int, prompt: int, completions: Sequence[int]) -> list[Tokens]:
    start = draw.integers(0, vocab_size, prompt).astype(np.int32)
    said = [draw.integers(0, vocab_size, n).astype(np.int32) for n in completions]
    return [Tokens(start, ids, np.ones(len(ids), dtype=bool)) for ids in said]


def _column(model: Columns, rows: Rows, asked: Probe) -> torch.Tensor:
    """The column of every sequence, one after the other."""
    rows = rows.to(asked.device)
    with torch.no_grad():
        made = model(rows, (asked.column,), 1)[asked.column].float()
    if asked.column == "scores":
        return made.cpu()
    longest = int(rows.origin[1].max()) + 1
    kept = scatter(torch.ones_like(made), rows, (len(rows), longest)) > 0
    return scatter(made, rows, (len(rows), longest))[kept].cpu()


def cheapest(
    shapes: Mapping[RowLayout, Sequence[GroupShape]], limits: Limits, cost: Cost, allowed: Sequence[RowLayout]
) -> RowLayout:
    """The layout of least estimated cost over a sample of the data; padded unless another is clearly cheaper."""
    costs: dict[RowLayout, float] = {layout: estimate(shapes[layout], layout, limits, cost) for layout in allowed}
    best = min(costs, key=lambda layout: costs[layout])
    return best if costs[best] <= WORTH * costs["padded"] else "padded"


def estimate(shapes: Sequence[GroupShape], layout: RowLayout, limits: Limits, cost: Cost) -> float:
    """Multiply-adds of one forward pass over these groups, padding included."""
    total = 0.0
    for micro in (m for rank in make_plan(shapes, layout, limits).ranks for m in rank if m.groups):
        rows = filled_rows([shapes[i] for i in micro.groups], layout, limits.row_tokens)
        width = max(sum(map(num_tokens, row)) for row in rows)
        total += len(rows) * width * cost.per_token + _area(rows, width, layout, cost) * cost.per_area
    return total


def _area(rows: Sequence[Sequence[GroupShape]], width: int, layout: RowLayout, cost: Cost) -> float:
    """Entries of the attention matrices that are computed. A dense mask pays length squared, masked or not."""
    square = float(len(rows) * width**2)
    if layout == "padded":
        return square / 2  # plain causal attention skips the upper half
    if not cost.block:
        return square
    # About a block for each query is computed in vain, at the diagonal and where its prompt begins and ends.
    seen = sum(visible_area(shape) for row in rows for shape in row)
    return min(float(seen + len(rows) * width * cost.block), square)


def visible_area(shape: GroupShape) -> int:
    """Pairs of a query and a key that it may attend to, in a group's trees."""
    return sum(
        trunk * (trunk + 1) // 2 + sum(n * trunk + n * (n + 1) // 2 for n in branches) for trunk, branches in shape
    )


def choose(
    wanted: str,
    right: Mapping[RowLayout, str],
    cheapest_of: Callable[[Sequence[RowLayout]], RowLayout],
    say: Callable[[str], Any],
) -> RowLayout:
    """`auto` takes the cheapest right one; a layout asked for by name that is wrong becomes padded. Both aloud."""
    for layout, finding in right.items():
        if finding and wanted in (layout, "auto"):
            say(f"layout {layout}: {finding}; not used")
    allowed: list[RowLayout] = [layout for layout, finding in right.items() if not finding or layout == "padded"]
    if wanted != "auto":
        return allowed[allowed.index(wanted)] if wanted in allowed else "padded"
    return cheapest_of(allowed)
