"""Which layout a run uses: the cheapest of those that this very model gets right.

What a model accepts is measured, not looked up: at the start it scores random rows in each layout, and a layout that
differs from one sequence at a time is not used, aloud. Four things make the measure able to fail: what is allowed is
what rounding does to this very model in its precision; what the prompts change must be far more than that; a window of
attention, which in real models is longer than any probe, is made short for it; and the longest sequence of the data is
tried as well, beside the shortest, for whatever else depends on length or on who shares the micro-batch.
"""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from align.models.parts import unwrapped
from align.scoring.layout import RowLayout
from align.scoring.plan import GroupShape, Limits, filled_rows, make_plan, num_tokens
from align.scoring.probe import Probe, Trial, far_apart, probe
from align.scoring.rounding import is_exact
from align.scoring.score import Scorer

COPIES = 9  # of a short sequence, and of a long one, that show what rounding does
LONG_COPIES = 2
PROBE_WINDOW = 5  # shorter than the sequences of a probe, and than the way from a second completion back to its prompt
LEAST_FAR = 17  # tokens of the shortest row that is longer than those of a probe
IN_FLOAT32 = ("sdpa", "eager")  # attention that computes in any precision, and is not compiled for each
WORTH = 0.97  # another layout than padded must cost at most this share of it


@dataclass(frozen=True)
class Cost:
    """What a model pays, in multiply-adds."""

    per_token: float  # parameters of the blocks
    per_area: float  # a query attending to a key: 2 * hidden size * layers
    block: int = 0  # side of the blocks that attention leaves out where nothing is visible; 0: it leaves out none


def measured(module: Any, scorer: Scorer, asked: Probe) -> dict[RowLayout, str]:
    """`accepted`, with the model's own window and with one that the probe can see. `scorer` is inside `module`.

    Without dropout, which would make any two passes differ. Under autocast the weights are exact, and what is wrong
    shows best without it; with it there is left to see that the layout runs and is not far off.
    """
    was_training, kernel = module.training, scorer.kernel
    module.eval()
    try:
        found = _measured(module, scorer, asked)
        if kernel.autocast is None or kernel.attention not in IN_FLOAT32:
            return found
        scorer.kernel = dataclasses.replace(kernel, autocast=None)
        exact = _measured(module, scorer, dataclasses.replace(asked, precision=None))
        return {name: exact[name] or finding for name, finding in found.items()}
    finally:
        scorer.kernel = kernel
        module.train(was_training)


def _measured(module: Any, scorer: Scorer, asked: Probe) -> dict[RowLayout, str]:
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


def accepted(model: Any, asked: Probe) -> dict[RowLayout, str]:
    """Layout -> empty where it is right, else what is wrong with it.

    Where results are rounded much, two probes have to agree on what is wrong: where rounding sends a token to another
    expert it moves one place far, and seldom twice.
    """
    found = _accepted(model, asked, 0)
    if is_exact(asked.precision) or not any(found.values()):
        return found
    again = _accepted(model, asked, 1)
    return {name: again[name] and finding for name, finding in found.items()}


def _accepted(model: Any, asked: Probe, seed: int) -> dict[RowLayout, str]:
    short = Trial(model, asked, probe(asked.vocab_size, seed))
    limits = short.limits(asked.layouts, COPIES)
    found = short.findings(limits)
    if asked.longest <= max(map(len, short.members)):
        return found
    far = _far_findings(model, asked, limits, seed)
    if far["padded"] and not found["padded"]:
        far["padded"] += f"; {_cure(model, asked, limits, seed)}"
    return {name: finding or far[name] for name, finding in found.items()}


def _far_findings(model: Any, asked: Probe, least: Mapping[RowLayout, float], seed: int) -> dict[RowLayout, str]:
    """As `accepted`, of the longest rows beside the shortest. `least`: what is allowed of short ones."""
    long = Trial(model, asked, far_apart(asked, seed), apart=True)
    limits = long.limits(list(least), LONG_COPIES)
    return long.findings({name: max(most, least[name]) for name, most in limits.items()})


def _cure(model: Any, asked: Probe, least: Mapping[RowLayout, float], seed: int) -> str:
    """What to do about padded rows that are wrong where the longest stands beside the shortest."""
    only: dict[RowLayout, float] = {"padded": least["padded"]}

    def wrong(length: int) -> bool:
        return bool(_far_findings(model, dataclasses.replace(asked, longest=length), only, seed)["padded"])

    if not wrong(asked.longest):
        return "they depend on what the model has read before"
    most = LEAST_FAR - 1 + bisect_left(range(LEAST_FAR, asked.longest), True, key=wrong)
    return (
        f"a short row's depend on how long the longest beside it is, not so up to {most} tokens: set "
        f"data.max_length={most} (less rollout.max_completion_length where the policy writes)"
    )


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
