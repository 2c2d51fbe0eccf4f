"""The parts of a page about one run: facts, warnings, results, samples, recipe, environment."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import yaml

from align.report.curves import curves, weights_section
from align.report.findings import findings, is_cut
from align.report.folder import LoggedCompletion, Run
from align.report.headline import before, compare, headline, outcome, points, told
from align.report.measured.game import game_section
from align.report.measured.task_scores import task_scores_section
from align.report.measures import Measure
from align.report.rounds import rounds_section
from align.report.rows import data_section
from align.report.text import clip, escape, exact, folded, is_share, label, part, short, table
from align.report.values import values_section

SHOWN_SAMPLES = 12
SHOWN_TEXT = 4000  # characters
Titled = tuple[str, LoggedCompletion]


def run_body(run: Run, level: int) -> str:
    """Everything about a run below its headline; `level` is that of its headings."""
    return "".join(
        (
            notices(run),
            part("Results on held-out rows", results(run), level),
            part("Rounds", rounds_section(run), level),
            part("Task scores of checkpoints", task_scores_section(run.path), level),
            part("The game", game_section(run), level),
            part("Curves", curves(run), level),
            part("Weights of the sources", weights_section(run), level),
            part("Values of states", values_section(run), level),
            part("Before and after", samples(run.samples), level),
            part("Data", data_section(run.data), level),
            part("Recipe", recipe(run), level),
            part("Environment", environment(run.environment), level),
        )
    )


def lead(run: Run) -> str:
    return "".join(f'<p class="lead">{sentence}</p>' for sentence in headline(run)) + facts(run)


def facts(run: Run) -> str:
    """One line: what was trained, for how long, how fast."""
    model = run.recipe.get("model")
    name = model.get("model_name_or_path") if isinstance(model, dict) else None
    pairs: list[tuple[str, str]] = [("method", escape(run.method)), ("model", escape(name or ""))]
    pairs.append(("steps", exact(run.last_step, f"{run.last_step:,}") if run.steps else ""))
    speeds, memory = [y for _, y in run.curve("tokens_per_second")], [y for _, y in run.curve("memory_mb")]
    pairs.append(("tokens per second, median", exact(m := statistics.median(speeds), short(m)) if speeds else ""))
    pairs.append(("memory peak", exact(max(memory), f"{short(max(memory))} MiB") if memory else ""))
    pairs.append(("processes", escape(run.environment.get("world_size") or "")))
    shown = "".join(f"<span>{key} <b>{value}</b></span>" for key, value in pairs if value)
    return f'<p class="facts">{shown}</p>'


def notices(run: Run) -> str:
    found = findings(run)
    shown = [(' class="warn"', "<b>Warning.</b> ") if f.grave else ("", "") for f in found]
    items = [f"<li{kind}>{word}{escape(f.text)}</li>" for f, (kind, word) in zip(found, shown, strict=True)]
    return f'<ul class="notices">{"".join(items)}</ul>' if items else ""


# ---- numbers --------------------------------------------------------------------------------------------------------


def finals(run: Run) -> dict[str, tuple[Measure, str]]:
    """Every metric that was measured on held-out rows: its final value, and the split."""
    keys = [k for k in run.test if not k.startswith("before")]
    evaluated = [k for k in run.metrics() if k.startswith("eval/") and not k.endswith(("_stderr", "_n", "/n"))]
    keys += [k.removeprefix("eval/") for k in evaluated]
    found = {k: outcome(run, k) for k in keys}
    return {k: (m, split) for k, (m, split) in found.items() if m}


def results(run: Run) -> str:
    head = ["", "After training", "Before", "Change", "Rows", "Split"]
    rows: list[list[str]] = []
    for key, (measure, split) in finals(run).items():
        earlier = before(run, key, split)
        count = f"{measure.n:,}" if measure.n else ""
        told_before = told(earlier, key) if earlier else ""
        rows.append([escape(label(key)), told(measure, key), told_before, _change(key, measure, earlier), count, split])
    used = [0, *(i for i in range(1, len(head)) if any(row[i] for row in rows))]
    return table([head[i] for i in used], [[row[i] for i in used] for row in rows]) if rows else ""


def _change(key: str, after: Measure, earlier: Measure | None) -> str:
    """With the error of the row-by-row differences where both were measured on the same rows."""
    if earlier is None:
        return ""
    gap, share = compare(after, earlier), is_percent(key, after)
    return exact(gap.value, points(gap, 100 if share else 1)) + (" points" if share else "")


def tiles(summary: dict[str, Measure]) -> str:
    """Large numbers of a pipeline."""
    boxes: list[str] = []
    for key, measure in summary.items():
        rows = f"on {measure.n:,} {measure.unit}" if measure.n else ""
        boxes.append(f"<div><span>{escape(label(key))}</span><b>{told(measure, key)}</b><span>{rows}</span></div>")
    return f'<div class="tiles">{"".join(boxes)}</div>' if boxes else ""


# ---- samples --------------------------------------------------------------------------------------------------------


def samples(found: Sequence[LoggedCompletion]) -> str:
    """The first and the last completion of each prompt side by side, those in between folded away."""
    by_prompt: dict[str, list[LoggedCompletion]] = {}
    for sample in found:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    cards = [card(prompt, *_first_and_last(of)) for prompt, of in list(by_prompt.items())[:SHOWN_SAMPLES]]
    rest = len(by_prompt) - len(cards)
    more = f'<p class="note">{rest:,} more prompts are in completions.jsonl.</p>' if rest > 0 else ""
    return "".join(cards) + more


def _first_and_last(of: Sequence[LoggedCompletion]) -> tuple[list[Titled], list[Titled]]:
    """Both of them, and the others."""
    earliest = next((s for s in of if s.stage == "before"), min(of, key=lambda s: s.step))
    latest = next((s for s in reversed(of) if s.stage == "after"), max(of, key=lambda s: s.step))
    others = [s for s in of if earliest.step < s.step < latest.step]
    both, rest = ([(_when(sample), sample) for sample in some] for some in ((earliest, latest), others))
    return (both if earliest is not latest else both[:1]), rest


def _when(sample: LoggedCompletion) -> str:
    if sample.stage == "before":
        return "Before training"
    return f"After {sample.step:,} steps" if sample.step else "After training"


def card(prompt: str, said: Sequence[Titled], between: Sequence[Titled] = ()) -> str:
    """A prompt and what was answered, each answer with its title; what came in between is folded away."""
    asked = f'<div class="asked"><p class="who"><b>Prompt</b></p>{_text(prompt)}</div>'
    rest = folded(f"In between: {len(between)} more", _answers(between)) if between else ""
    return f'<article class="sample">{asked}{_answers(said)}{rest}</article>'


def _answers(said: Sequence[Titled]) -> str:
    return f'<div class="answers">{"".join(_answer(title, sample) for title, sample in said)}</div>'


def _answer(title: str, sample: LoggedCompletion) -> str:
    facts = [f"{name} {short(value)}" for name, value in sample.rewards.items()]
    facts.append(f"{sample.length:,} tokens" if sample.length is not None else "")
    facts.append("cut at the limit" if is_cut(sample.stop_reason) else sample.stop_reason)
    words = escape(" · ".join(f for f in facts if f))
    head = f'<p class="who"><b>{escape(title)}</b><span>{words}</span></p>'
    return f'<div class="said">{head}{_text(sample.text.removeprefix(" "))}</div>'


def _text(text: str) -> str:
    if not text.strip():
        return '<p class="note">(empty)</p>'
    kind = "text long" if len(text) > 1200 else "text"
    return f'<p class="{kind}" dir="auto">{escape(clip(text, SHOWN_TEXT))}</p>'


# ---- settings -------------------------------------------------------------------------------------------------------


def recipe(run: Run) -> str:
    """The resolved recipe without comments; as it stands where it is no valid YAML."""
    text = yaml.safe_dump(run.recipe, sort_keys=False, allow_unicode=True, width=100) if run.recipe else run.recipe_text
    return folded("All settings of this run", f"<pre>{escape(text)}</pre>") if text.strip() else ""


def environment(tree: dict[str, Any]) -> str:
    rows = [[escape(key), f"<code>{escape(value)}</code>"] for key, value in flat(tree).items()]
    return folded("Versions, hardware, fingerprints", table([], rows, kind="wide")) if rows else ""


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
