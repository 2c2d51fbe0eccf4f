"""The tables of `credit_study`, and what they say of each claim."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

Cells = Sequence[dict[str, Any]]
COSTS = ("samples", "seconds", "generated", "processed")
NAMES = {
    "samples": "completions", "seconds": "seconds", "generated": "tokens written",
    "processed": "tokens scored or trained on",
}  # fmt: skip
SURE = 2.0  # standard errors
SOON = 0.9  # right sums: before any method comes to its end
CHANCE = 0.6  # up to this share of pairs put in order is near chance


def section(cells: Cells) -> str:
    """Everything below the heading; cells that are still to be made are left out."""
    parts = (_credit, _shift, _drift, _window)
    return "\n".join(text for part in parts if (text := part(cells)))


# ---- figures --------------------------------------------------------------------------------------------------------


def of(cells: Cells, study: str, variant: str) -> list[dict[str, Any]]:
    return [c for c in cells if (c["study"], c["variant"]) == (study, variant)]


def variants(cells: Cells, study: str) -> list[str]:
    return list(dict.fromkeys(c["variant"] for c in cells if c["study"] == study))


def spent(point: dict[str, float], cost: str) -> float:
    return point["scored"] + point["trained"] if cost == "processed" else point[cost]


def earned_at(cell: dict[str, Any], cost: str, amount: float) -> float:
    """What had been earned for so much, between evaluations on a straight line."""
    points = [(spent(p, cost), p["earned"]) for p in cell["points"]]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 <= amount <= x1:
            return y0 + (y1 - y0) * (amount - x0) / max(x1 - x0, 1e-9)
    return points[0][1] if amount < points[0][0] else points[-1][1]


def cost_of(cell: dict[str, Any], cost: str, earned: float) -> float:
    """What it cost until so much was first earned; infinite where it never was."""
    return next((spent(p, cost) for p in cell["points"] if p["earned"] >= earned), math.inf)


def spread(values: Sequence[float], digits: int = 3) -> str:
    """The mean and its standard error; a dash where nothing has been run yet."""
    if not values:
        return "-"
    if any(math.isinf(v) for v in values):
        return f"{sum(map(math.isfinite, values))} of {len(values)} seeds"
    mean, error = summary(values)
    return f"{mean:,.{digits}f} ± {error:,.{digits}f}" if len(values) > 1 else f"{mean:,.{digits}f}"


def summary(values: Sequence[float]) -> tuple[float, float]:
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return statistics.fmean(values), error


def verdict(ahead: Sequence[float]) -> str:
    """Of differences that the claim says are above 0, one a seed."""
    if len(ahead) < 2 or any(math.isnan(v) for v in ahead):
        return "**could not be told**"
    if any(math.isinf(v) for v in ahead):
        return "**did not hold**" if -math.inf in ahead else "**held**"
    mean, error = summary(ahead)
    if mean > SURE * error:
        return "**held**"
    return "**did not hold**" if mean < -SURE * error else "**could not be told** from chance"


def paired(cells: Cells, study: str, one: str, other: str, value: Callable[[dict[str, Any]], float]) -> list[float]:
    """value(one) - value(other) for each seed that both have."""
    ours, theirs = ({c["seed"]: value(c) for c in of(cells, study, name)} for name in (one, other))
    return [ours[seed] - theirs[seed] for seed in ours if seed in theirs]


def grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]]) + "\n"


# ---- studies --------------------------------------------------------------------------------------------------------


def _credit(cells: Cells) -> str:
    names = variants(cells, "credit")
    if not names:
        return ""
    mine = [c for c in cells if c["study"] == "credit"]
    equal = {cost: min(spent(c["points"][-1], cost) for c in mine) for cost in COSTS}
    until = [f"{NAMES[cost]} until {SOON}" for cost in ("samples", "generated")]
    head = ["method", *(f"{equal[cost]:,.0f} {NAMES[cost]}" for cost in COSTS), *until, "seeds"]
    rows: list[list[str]] = []
    for name in names:
        own = of(cells, "credit", name)
        figures = [spread([earned_at(c, cost, equal[cost]) for c in own]) for cost in COSTS]
        until = [spread([cost_of(c, cost, SOON) for c in own], 0) for cost in ("samples", "generated")]
        rows.append([f"`{name}`", *figures, *until, str(len(own))])
    told = [
        "### Sums of four digits",
        "Share of 256 held-out sums that the likeliest completion gets right, at equal costs; a completion is one that "
        "is learned from, what VinePPO writes beside it counts in the other columns. Seconds are those of one core "
        "without audits and evaluations; tokens are the same on any machine.",
        grid(head, rows),
        _audited(cells, names),
        *_credit_claims(cells),
    ]
    return "\n\n".join(t.rstrip("\n") for t in told if t) + "\n"


def _audited(cells: Cells, names: Sequence[str]) -> str:
    rows: list[list[str]] = []
    for name in names:
        own = [c for c in of(cells, "credit", name) if c["audits"]]
        if own:
            figures = [spread([error_of(c) for c in own]), spread([noise_of(c) for c in own])]
            rows.append([f"`{name}`", *figures, spread([order_of(c) for c in own], 2)])
    head = ["method", "mean absolute error of values", "standard error of the truth", "states in the right order"]
    return grid(head, rows) if rows else ""


def error_of(cell: dict[str, Any]) -> float:
    return statistics.fmean(a["error"] for a in cell["audits"])


def noise_of(cell: dict[str, Any]) -> float:
    return statistics.fmean(a["noise"] for a in cell["audits"])


def order_of(cell: dict[str, Any]) -> float:
    """Share of all pairs of a run that were put in order."""
    pairs = sum(a["pairs"] for a in cell["audits"])
    return sum(a["order"] * a["pairs"] for a in cell["audits"]) / max(pairs, 1)


def _credit_claims(cells: Cells) -> list[str]:
    ppo, vine = (of(cells, "credit", name) for name in ("ppo", "vineppo"))
    if not ppo or not vine:
        return []
    goal = min(c["points"][-1]["earned"] for c in ppo)  # what all of its seeds come to
    fewer = {
        cost: paired(cells, "credit", "ppo", "vineppo", lambda c, cost=cost: cost_of(c, cost, goal))
        for cost in ("samples", "seconds")
    }
    needed = {
        cost: [spread([cost_of(c, cost, goal) for c in of_method], 0) for of_method in (vine, ppo)] for cost in fewer
    }
    closer = paired(cells, "credit", "ppo", "vineppo", error_of)
    order, _ = summary([order_of(c) for c in ppo])
    return [
        f"- VinePPO reaches PPO's accuracy ({goal:.3f}, to which all its seeds come) with fewer completions: "
        f"{verdict(fewer['samples'])}: {needed['samples'][0]} against {needed['samples'][1]}.\n"
        f"- And in less time: {verdict(fewer['seconds'])}: {needed['seconds'][0]} against {needed['seconds'][1]} "
        "seconds of one core.\n"
        f"- Its values are nearer to the truth than the critic's: {verdict(closer)}: "
        f"{spread([error_of(c) for c in vine])} against {spread([error_of(c) for c in ppo])} (the paper: 0.03, 0.11).\n"
        f"- A critic orders steps hardly better than chance: {'**held**' if order <= CHANCE else '**did not hold**'}: "
        f"PPO's orders {order:.0%} of the pairs that can be told apart."
    ]


def _shift(cells: Cells) -> str:
    if len(variants(cells, "shift")) < 4:
        return ""
    rows = [
        [f"`{name}`", spread([c["points"][-1]["earned"] for c in of(cells, "shift", name)]),
         str(len(of(cells, "shift", name)))]
        for name in variants(cells, "shift")
    ]  # fmt: skip
    plain, moved = ({c["seed"]: c["weights"] for c in of(cells, "shift", name)} for name in ("p3o", "p3o shifted"))
    same = bool(plain) and plain == moved
    noticed = paired(cells, "shift", "ppo", "ppo shifted", lambda c: c["points"][-1]["earned"])
    return "\n\n".join(
        (
            "### A constant on all rewards of a problem",
            "Share of right sums of two digits, without and with 0 to 112 added to the rewards of a problem.",
            grid(["method", "right sums", "seeds"], rows).rstrip("\n"),
            f"- P3O does not notice: {'**held**' if same else '**did not hold**'}: its weights after training are "
            f"{'the same to the last bit' if same else 'others'}.\n"
            f"- PPO does: {verdict(noticed)}: it loses {spread(noticed)}.\n",
        )
    )


def _drift(cells: Cells) -> str:
    if not variants(cells, "drift"):
        return ""
    rows: list[list[str]] = []
    for name in variants(cells, "drift"):
        own = of(cells, "drift", name)
        last = [[c["points"][-1][what] for c in own] for what in ("earned", "kl")]
        most = [max(p["kl"] for p in c["points"]) for c in own]
        rows.append([f"`{name}`", spread(last[0]), spread(last[1], 1), spread(most, 1), str(len(own))])
    if not all(of(cells, "drift", name) for name in ("apa", "ppo")):
        return ""
    goal = min(max(p["earned"] for p in c["points"]) for c in cells if c["study"] == "drift")
    less = paired(cells, "drift", "ppo", "apa", lambda c: cost_of(c, "kl", goal))
    far = {name: spread([cost_of(c, "kl", goal) for c in of(cells, "drift", name)], 1) for name in ("apa", "ppo")}
    return "\n\n".join(
        (
            "### Divergence from the start",
            "Share of ten happy words in 48 tokens of a story, and nats a completion from the first model.",
            grid(["method", "reward", "KL at the end", "largest KL", "seeds"], rows).rstrip("\n"),
            f"- APA's divergence is better controlled, less where both earn as much ({goal:.3f}, which all seeds "
            f"reach): {verdict(less)}: {far['apa']} nats against PPO's {far['ppo']}.\n",
        )
    )


def _window(cells: Cells) -> str:
    names = variants(cells, "window")
    if not names:
        return ""
    mine = [c for c in cells if c["study"] == "window"]
    equal = min(c["points"][-1]["generated"] for c in mine)
    rows = [
        [f"`{name}`", spread([earned_at(c, "generated", equal) for c in of(cells, "window", name)]),
         spread([c["points"][-1]["seconds"] for c in of(cells, "window", name)], 0),
         str(len(of(cells, "window", name)))]
        for name in names
    ]  # fmt: skip
    if len(names) < 2:
        return ""
    ahead = paired(cells, "window", "t_ppo", "vc_ppo", lambda c: earned_at(c, "generated", equal))
    return "\n\n".join(
        (
            "### A window at a time",
            f"Share of ten happy words in 96 tokens of a story after {equal:,.0f} tokens written; PPO with two "
            "lambdas, and T-PPO with windows of 32 tokens.",
            grid(["method", "reward", "seconds in all", "seeds"], rows).rstrip("\n"),
            f"- T-PPO earns more for as many tokens: {verdict(ahead)}: {spread(ahead)}. Nearly all completions are cut "
            "at 96 tokens here. Its gain where a few long ones hold up all others cannot be tested at this size.\n",
        )
    )
