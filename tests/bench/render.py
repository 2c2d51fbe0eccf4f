"""benchmarks.json from what was measured, case by case, and BENCHMARKS.md from benchmarks.json."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.cases import CASES, Case
from tests.bench.run import ON_CPU, THREADS, Measured, Outcome

PACKAGES = ("torch", "transformers", "trl", "accelerate")
SLACK = 0.9  # a promised ratio is kept down to this share of it
SIDES = ("ours", "trl_tuned", "trl_split", "trl_default")
NAMES = "case", "what", "ours", "TRL tuned", "TRL split", "TRL default"
HEAD = """# Benchmarks

One optimiser step of `align` against one of TRL {trl}, on identical batches, from the same weights: layout or collation
to zeroed gradients, clipping and AdamW included, the reference's pass too where it is not cached. Where the policy
writes (`grpo_*`), a step is prompts to zeroed gradients through both sides' own loops: writing, rewards, the reference,
advantages, one update; `generate_*` is the writing alone.

- **TRL tuned**: float32, no gradient checkpointing, scaled-dot-product attention, fused AdamW; padding-free collation
  where that is faster. Liger and flash attention need a GPU; DPO's `padding_free` says that it is switched off. The
  batch goes through in one piece, as it is given.
- **TRL split**: the same, the batch divided by `gradient_accumulation_steps` into the micro-batches that were fastest
  here: what somebody gets who tries them all for each shape.
- **TRL default**: as it comes: bfloat16 autocast, gradient checkpointing.
- **ours**: the defaults; layout and micro-batches are what the trainer chose.
- **ratio**: TRL tuned / ours; **of split**: TRL split / ours. Above 1 we are faster, or smaller.
- Before anything is timed both sides show the token numbers of every sequence, which must be the same, and their
  log-probabilities, whose largest difference stands under *equal* (limits {per_token:g} a token, {per_sequence:g} a
  sum). Where the policy writes, greedy completions must be the same token by token too, and a step on given completions
  must have the same loss and gradient norm (limit {learned:g}). What is timed is sampled at temperature 1, and no token
  ends a completion, so that all are of the length that the case says.
- Time: the sides' processes take turns, one step each, on {threads} threads; medians in seconds, quartiles in brackets.
- Memory: a fresh process for each; the high-water mark of resident memory over its first two steps, less what it held
  before them, in MiB. Gradients and AdamW's state are in it, weights and the reference are not.

Last command: `{command}`. Cases that it does not name, or was cut before it reached, are kept from
earlier runs of `python -m tests.bench`; a case that is not in the tables has not been run to its end. Timed steps: ours
up to {repetitions}, TRL's option sets as many, or 3 of the whole batch and 1 of the others where they are far behind
the fastest. Machine: {cpu}, {threads} threads; {versions}. Load of the machine
during the run (1-minute average, the {threads} threads of the benchmark included): {lowest} to {highest}.
"""
WRITING = """## Where the policy writes

Seconds of a step by part (medians): *generate* is the writing, *score* what stands between it and the loss (rewards,
the reference's log-probabilities, advantages), *train* the rest. Tokens are those that the policy wrote, by the whole
step's time. Memory is in the table above.
"""
OPTIONS = """## TRL's option sets

Median seconds of a step; TRL tuned is the fastest with the whole batch, TRL split the fastest of the others.
"""
ON_A_GPU = """## On a GPU

Not measured. `python -m tests.bench.gpu` measures Llama shapes of 0.5 and 1.5 billion parameters in bfloat16 autocast
on one, with model FLOPs utilisation, into BENCHMARKS_GPU.md.
"""


def keep(outcome: Outcome, command: str, folder: Path) -> list[dict[str, Any]]:
    """Writes a case beside those that the files have already. Returns the rows of all."""
    file = folder / "benchmarks.json"
    before = json.loads(file.read_text())["rows"] if file.exists() else []
    order = [case.name for case in CASES]
    found = [row for row in before if row["case"] != outcome.case.name and row["case"] in order] + rows(outcome)
    found.sort(key=lambda row: order.index(row["case"]))
    made = environment(command) | {"rows": found}
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(made, indent=1) + "\n")
    (folder / "BENCHMARKS.md").write_text(markdown(made))
    return found


def environment(command: str) -> dict[str, Any]:
    return {
        "command": command,
        "hardware": {"cpu": _cpu(), "cores": os.cpu_count(), "threads": THREADS},
        "versions": {"python": platform.python_version(), **{p: importlib.metadata.version(p) for p in PACKAGES}},
    }


def rows(o: Outcome) -> list[dict[str, Any]]:
    """One for the time and one for the memory."""
    sides = dict(zip(SIDES, (o.ours, o.tuned, o.split, o.trl_default), strict=True))
    shared = {"case": o.case.name, "equal": o.per_token, "equal_sum": o.per_sequence, "tuned_options": o.tuned.label,
              "split_options": o.split.label}  # fmt: skip
    time = shared | {"metric": "step_time", "unit": "s"} | _compared({side: m.median for side, m in sides.items()})
    time |= {"quartiles": {side: m.spread for side, m in sides.items()}, "num_steps": len(o.ours.seconds)}
    time |= {"cpu_seconds": {side: _cpu_median(m) for side, m in sides.items()}, "load": o.load}
    time |= {"all_options": {m.label: m.median for m in o.trl_tuned}, "layout": "; ".join(o.ours.notes)}
    if o.case.online:
        time["parts"] = {side: m.parts for side, m in sides.items()}
        time["tokens_per_second"] = {side: o.case.num_written / m.median for side, m in sides.items()}
    memory = {"metric": "peak_memory", "unit": "MiB"} | _compared({side: m.memory for side, m in sides.items()})
    return [time, shared | memory]


def _compared(found: dict[str, float]) -> dict[str, Any]:
    return found | {
        k: found[side] / found["ours"] for k, side in (("ratio", "trl_tuned"), ("ratio_split", "trl_split"))
    }


def _cpu_median(m: Measured) -> float:
    return sorted(m.cpu_seconds)[len(m.cpu_seconds) // 2]


def missed(found: Sequence[dict[str, Any]], ratio: str = "ratio") -> list[str]:
    """Promised ratios that did not come true, less the slack."""
    return [
        f"`{row['case']}`, {row['metric']}: promised {promised(row):g}x, found {row[ratio]:.2f}x"
        for row in found
        if row[ratio] < SLACK * promised(row)
    ]


def promised(row: dict[str, Any]) -> float:
    case = _case(row)
    return case.target if row["metric"] == "step_time" else case.target_memory


def _case(row: dict[str, Any]) -> Case:
    return next(case for case in CASES if case.name == row["case"])


def markdown(made: dict[str, Any]) -> str:
    found: list[dict[str, Any]] = made["rows"]
    time = [row for row in found if row["metric"] == "step_time"]
    memory = [row for row in found if row["metric"] == "peak_memory"]
    loads = [load for row in time for load in row["load"]]
    head = HEAD.format(
        **made["hardware"], trl=made["versions"]["trl"], command=made["command"],
        repetitions=max(row["num_steps"] for row in time), per_token=ON_CPU.per_token,
        per_sequence=ON_CPU.per_sequence, learned=ON_CPU.learned,
        versions=", ".join(f"{n} {v}" for n, v in made["versions"].items()),
        lowest=f"{min(loads):.1f}", highest=f"{max(loads):.1f}",
    )  # fmt: skip
    names = (*NAMES, "ratio", "of split", "promised")
    options = [(f"`{row['case']}`", _options(row), row["layout"]) for row in time]
    return "\n".join((
        head, "## Time of a step\n", _table((*names, "equal"), [(*_line(r), f"{r['equal']:.1e}") for r in time]),
        _least(time), "## Peak memory above the baseline\n", _table(names, [_line(r) for r in memory]),
        _promises(found), *_writing(time), OPTIONS,
        _table(("case", "option sets", "our layout"), options), ON_A_GPU,
    ))  # fmt: skip


def _line(row: dict[str, Any]) -> tuple[str, ...]:
    target = promised(row)
    ratios = f"**{row['ratio']:.2f}**", f"{row['ratio_split']:.2f}", f"{target:g}" if target else ""
    return f"`{row['case']}`", _case(row).what, *(_number(row, side) for side in SIDES), *ratios


def _number(row: dict[str, Any], side: str) -> str:
    if row["metric"] == "peak_memory":
        return f"{row[side]:.0f}"
    low, high = row["quartiles"][side]
    return f"{row[side]:.2f} ({low:.2f}, {high:.2f})"


def _writing(time: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """Speed and parts of the steps in which the policy writes; nothing where there are none."""
    sides = dict(zip(SIDES, NAMES[2:], strict=True))
    parts = ("generate", "score", "train")
    body = [
        (f"`{row['case']}`", name, f"{row['tokens_per_second'][side]:.0f}",
         *(f"{row['parts'][side][part]:.2f}" if part in row["parts"][side] else "" for part in parts))
        for row in time if "parts" in row
        for side, name in sides.items()
    ]  # fmt: skip
    return (WRITING, _table(("case", "side", "tokens/s", *parts), body)) if body else ()


def _options(row: dict[str, Any]) -> str:
    return "; ".join(f"{label} {value:.2f}" for label, value in sorted(row["all_options"].items(), key=lambda p: p[1]))


def _least(time: Sequence[dict[str, Any]]) -> str:
    parts: list[str] = []
    for ratio, against in (("ratio", "TRL tuned"), ("ratio_split", "TRL split")):
        least = min(time, key=lambda row: row[ratio])
        parts.append(f"against {against} at `{least['case']}` ({_case(least).what}): {least[ratio]:.2f} times")
    return f"\nWe win least {'; '.join(parts)}.\n"


def _promises(found: Sequence[dict[str, Any]]) -> str:
    """The promises were made against TRL with the batch in one piece."""
    parts: list[str] = []
    for ratio, against in (("ratio", "TRL tuned"), ("ratio_split", "TRL split")):
        if wrong := missed(found, ratio):
            listed = "".join(f"- {line}\n" for line in wrong)
            parts.append(f"Against {against}, promised ratios that were not reached (less a tenth):\n\n{listed}")
        else:
            parts.append(f"Against {against} every promised ratio is kept (less a tenth at most).\n")
    return "\n" + "\n".join(parts)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
