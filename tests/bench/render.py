"""BENCHMARKS.md and benchmarks.json from what was measured."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.run import ON_CPU, THREADS, Measured, Outcome

PACKAGES = ("torch", "transformers", "trl", "accelerate")
SLACK = 0.9  # a promised ratio is kept down to this share of it
HEAD = """# Benchmarks

One optimiser step of `align` against one of TRL {trl}, on identical batches, from the same weights: layout or collation
to zeroed gradients, clipping and AdamW included, the reference's pass too where it is not cached. Ratios are TRL tuned
divided by ours: above 1 we are faster, or smaller.

- **TRL tuned**: float32, no gradient checkpointing, scaled-dot-product attention, and the fastest of the option sets
  named in the last table. Its fused AdamW is the default, as is ours. Liger and flash attention need a GPU; DPO's
  `padding_free` says that it is switched off.
- **TRL default**: as it comes: bfloat16 autocast, gradient checkpointing.
- **ours**: the defaults of `training` but {options}; the layout is what `auto` chose.
- Before anything is timed both sides show the token numbers of every sequence, which must be the same, and their
  log-probabilities, whose largest difference stands under *equal* (limits {per_token:g} a token, {per_sequence:g} a
  sum).
- Time: the sides' processes take turns, one step each, on {threads} threads; medians, quartiles in brackets.
- Memory: a fresh process for each; the high-water mark of resident memory over its first two steps, less what it held
  before them. Gradients and AdamW's state are in it, weights and the reference are not.

Command: `{command}`. Machine: {cpu}, {threads} threads; {versions}. Load of the machine during the run (1-minute
average, the {threads} threads of the benchmark included): {load}.
"""


def environment(command: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    loads = [load for o in outcomes for load in o.load]
    return {
        "command": command,
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": THREADS},
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in PACKAGES}},
        "load": {"lowest": round(min(loads), 2), "highest": round(max(loads), 2)},
    }


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """One for the time and one for the memory of each case."""
    found: list[dict[str, Any]] = []
    for o in outcomes:
        shared = {"case": o.case.name, "equal": o.per_token, "equal_sum": o.per_sequence, "tuned_options": o.best.label}
        seconds = {"ours": o.ours.median, "trl_default": o.trl_default.median, "trl_tuned": o.best.median}
        spread = {"ours": o.ours.spread, "trl_default": o.trl_default.spread, "trl_tuned": o.best.spread}
        found.append(shared | {"metric": "step_time", "unit": "s"} | seconds | {
            "ratio": o.best.median / o.ours.median, "quartiles": spread, "num_steps": len(o.ours.seconds),
            "load": o.load, "all_options": {m.label: m.median for m in o.trl_tuned},
        })  # fmt: skip
        memory = {"ours": o.ours.memory, "trl_default": o.trl_default.memory, "trl_tuned": o.best.memory}
        found.append(
            shared | {"metric": "peak_memory", "unit": "MiB"} | memory | {"ratio": o.best.memory / o.ours.memory}
        )
    return found


def missed(outcomes: Sequence[Outcome]) -> list[str]:
    """Promised ratios that did not come true, less the slack."""
    found: list[str] = []
    for o in outcomes:
        for what, target, ratio in (
            ("time", o.case.target, o.best.median / o.ours.median),
            ("memory", o.case.target_memory, o.best.memory / o.ours.memory),
        ):
            if ratio < SLACK * target:
                found.append(f"{o.case.name}: {what} {ratio:.2f}x, promised {target:g}x less a tenth")
    return found


def write(outcomes: Sequence[Outcome], command: str, folder: Path) -> None:
    made = environment(command, outcomes)
    (folder / "benchmarks.json").write_text(json.dumps(made | {"rows": rows(outcomes)}, indent=1) + "\n")
    (folder / "BENCHMARKS.md").write_text(markdown(outcomes, made))


def markdown(outcomes: Sequence[Outcome], made: dict[str, Any]) -> str:
    versions = ", ".join(f"{n} {v}" for n, v in made["versions"].items())
    load = f"{made['load']['lowest']} to {made['load']['highest']}"
    parts = [
        HEAD.format(
            **made["hardware"],
            trl=made["versions"]["trl"],
            command=made["command"],
            options=", ".join(f"`{k}: {v}`" for k, v in ON_CPU.ours.items()),
            per_token=ON_CPU.per_token,
            per_sequence=ON_CPU.per_sequence,
            versions=versions,
            load=load,
        ),
        "## Time of a step\n",
        _table(
            ("case", "what", "ours, s", "TRL tuned, s", "TRL default, s", "ratio", "promised", "equal"),
            [_time(o) for o in outcomes],
        ),
        _least(outcomes),
        "## Peak memory above the baseline\n",
        _table(
            ("case", "ours, MiB", "TRL tuned, MiB", "TRL default, MiB", "ratio", "promised"),
            [_memory(o) for o in outcomes],
        ),
        "## TRL's option sets\n\nMedian seconds of a step; the fastest is TRL tuned.\n",
        _table(("case", "option sets", "our layout"), [_options(o) for o in outcomes]),
        _promises(outcomes),
        "## On a GPU\n\nNot measured. `python -m tests.bench.gpu` measures Llama shapes of 0.5 and 1.5 billion"
        " parameters in bfloat16 autocast on one, with model FLOPs utilisation, into BENCHMARKS_GPU.md.\n",
    ]
    return "\n".join(parts)


def _time(o: Outcome) -> tuple[str, ...]:
    return (
        f"`{o.case.name}`", o.case.what, _seconds(o.ours), _seconds(o.best), _seconds(o.trl_default),
        f"**{o.best.median / o.ours.median:.2f}**", f"{o.case.target:g}" if o.case.target else "", f"{o.per_token:.1e}",
    )  # fmt: skip


def _memory(o: Outcome) -> tuple[str, ...]:
    numbers = (f"{m.memory:.0f}" for m in (o.ours, o.best, o.trl_default))
    promised = f"{o.case.target_memory:g}" if o.case.target_memory else ""
    return (f"`{o.case.name}`", *numbers, f"**{o.best.memory / o.ours.memory:.1f}**", promised)


def _options(o: Outcome) -> tuple[str, ...]:
    tried = "; ".join(f"{m.label} {m.median:.2f}" for m in sorted(o.trl_tuned, key=lambda m: m.median))
    return f"`{o.case.name}`", tried, "; ".join(o.ours.notes)


def _seconds(m: Measured) -> str:
    return f"{m.median:.2f} ({m.spread[0]:.2f}, {m.spread[1]:.2f})"


def _least(outcomes: Sequence[Outcome]) -> str:
    least = min(outcomes, key=lambda o: o.best.median / o.ours.median)
    ratio = least.best.median / least.ours.median
    return f"\nWe win least at `{least.case.name}` ({least.case.what}): {ratio:.2f} times.\n"


def _promises(outcomes: Sequence[Outcome]) -> str:
    wrong = missed(outcomes)
    if not wrong:
        return "\nEvery promised ratio is kept (less a tenth at most).\n"
    return "\nPromised ratios that this run did not reach:\n\n" + "".join(f"- {line}\n" for line in wrong)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
