"""The parts of a page about one run: facts, warnings, results, recipe, environment."""

from __future__ import annotations

import statistics
from typing import Any

import yaml

from align.report.curves import curves
from align.report.findings import findings
from align.report.folder import Run
from align.report.headline import before, compare, outcome, points, told
from align.report.measured.game import game_section
from align.report.measured.rounds import rounds_section
from align.report.measured.task_scores import task_scores_section
from align.report.measured.values import values_section
from align.report.measured.weights import weights_section
from align.report.measures import Measure
from align.report.parts.blocks import Block, Code, Facts, Notices, Section, Table, Tiles
from align.report.rows import data_section
from align.report.samples import finder, samples
from align.report.state import standing
from align.report.text import exact, is_share, label, short


def run_sections(run: Run) -> list[Section]:
    """Everything about a run below its headline."""
    return [
        Section(title="Results on held-out rows", blocks=results(run)),
        Section(title="Rounds", blocks=rounds_section(run)),
        Section(title="Evaluations of checkpoints", blocks=task_scores_section(run.path)),
        Section(title="The game", blocks=game_section(run)),
        Section(title="Curves", blocks=curves(run)),
        Section(title="Weights of the sources", blocks=weights_section(run)),
        Section(title="Values of states", blocks=values_section(run)),
        Section(title="Before and after", blocks=samples(run)),
        Section(title="All completions", blocks=finder(run), open=False),
        Section(title="Data", blocks=data_section(run.data), open=False),
        Section(title="Recipe", blocks=recipe(run), open=False),
        Section(title="Environment", blocks=environment(run.environment), open=False),
    ]


def opening(run: Run) -> list[Block]:
    """One line of what was trained, for how long, how fast; and what a careful reader would want to be told first."""
    warned = [(f.text, f.grave) for f in findings(run)]
    return [Facts(facts(run)), *([Notices(warned)] if warned else [])]


def facts(run: Run) -> list[tuple[str, str]]:
    model = run.recipe.get("model")
    name = model.get("model_name_or_path") if isinstance(model, dict) else None
    speeds, memory = [y for _, y in run.curve("tokens_per_second")], [y for _, y in run.curve("memory_mb")]
    pairs = [
        ("method", run.method),
        ("model", str(name or "")),
        ("steps", exact(run.last_step, f"{run.last_step:,}") if run.steps else ""),
        ("tokens per second, median", exact(m := statistics.median(speeds), short(m)) if speeds else ""),
        ("memory peak", exact(max(memory), f"{short(max(memory))} MiB") if memory else ""),
        ("processes", str(run.environment.get("world_size") or "")),
    ]
    return [(key, value) for key, value in pairs if value]


# ---- numbers --------------------------------------------------------------------------------------------------------


def finals(run: Run) -> dict[str, tuple[Measure, str]]:
    """Every metric that was measured on held-out rows: its final value, and the split."""
    keys = [k for k in run.test if not k.startswith("before")]
    evaluated = [k for k in run.metrics() if k.startswith("eval/") and not k.endswith(("_stderr", "_n", "/n"))]
    keys += [k.removeprefix("eval/") for k in evaluated]
    found = {k: outcome(run, k) for k in keys}
    return {k: (m, split) for k, (m, split) in found.items() if m}


def results(run: Run) -> list[Block]:
    head = ["", "So far" if standing(run) else "After training", "Before", "Change", "Rows", "Split"]
    rows: list[list[str]] = []
    for key, (measure, split) in finals(run).items():
        earlier = before(run, key, split)
        count = f"{measure.n:,}" if measure.n else ""
        told_before = told(earlier, key) if earlier else ""
        rows.append([label(key), told(measure, key), told_before, _change(key, measure, earlier), count, split])
    used = [0, *(i for i in range(1, len(head)) if any(row[i] for row in rows))]
    return [Table(head=[head[i] for i in used], rows=[[row[i] for i in used] for row in rows])] if rows else []


def _change(key: str, after: Measure, earlier: Measure | None) -> str:
    """With the error of the row-by-row differences where both were measured on the same rows."""
    if earlier is None:
        return ""
    gap, share = compare(after, earlier), is_percent(key, after)
    return exact(gap.value, points(gap, 100 if share else 1) + (" points" if share else ""))


def tiles(summary: dict[str, Measure]) -> list[Block]:
    """Large numbers of a pipeline."""
    numbers = [(label(key), told(m, key), f"on {m.n:,} {m.unit}" if m.n else "") for key, m in summary.items()]
    return [Tiles(numbers)] if numbers else []


# ---- settings -------------------------------------------------------------------------------------------------------


def recipe(run: Run) -> list[Block]:
    """The resolved recipe without comments; as it stands where it is no valid YAML."""
    text = yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True, width=100) if run.recipe else run.recipe_text
    return [Code(text)] if text.strip() else []


def environment(tree: dict[str, Any]) -> list[Block]:
    """Versions, hardware, fingerprints."""
    rows = list(flat(tree).items())
    return [Table(rows=rows, code=True)] if rows else []


def flat(tree: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as `section.key`, values as they would be written on the command line."""
    found: dict[str, str] = {}
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if isinstance(value, dict) and value and prefix.count(".") < 8:  # an alias in YAML can contain itself
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = "" if value is None else str(value)
    return found


def is_percent(key: str, measure: Measure) -> bool:
    return is_share(key) and 0 <= measure.value <= 1
