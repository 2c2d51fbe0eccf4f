"""EleutherAI's lm-evaluation-harness (`lm_eval`), asked as a program: it may live in an environment of its own.

Its numbers come with a standard error; the interval is theirs, value ± z standard errors, and is named so. Its tasks
are called `lm_eval/TASK` here, since prompts, versions and extraction are not those of our tasks of the same name.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import align
from align.errors import RunError, UserError
from align.models.load import where
from align.models.tokenizer import load_tokenizer
from align.system.ranges import AtLeastOne, Count, Positive
from align_eval.generation.models import named
from align_eval.generation.trained import find
from align_eval.results.document import Failure, Results, Scored, Sections
from align_eval.results.reading import add, ready
from align_eval.running.run import inputs_of
from align_eval.statistics.estimate import Estimate
from align_eval.statistics.shares import z_of
from align_eval.words import settings_from

LEVEL = 0.95
FOREIGN = {"shots": "num_fewshot", "n_shot": "num_fewshot", "apply_chat_template": "form", "chat_template": "form",
           "model_args": "arguments", "max_rows": "batch_size"}  # fmt: skip
PREFIX = "lm_eval/"
TAIL = 12  # lines of what it says that an error shows
STDERR = "_stderr"


@dataclass(frozen=True, kw_only=True)
class HarnessSettings:
    """What it is told beside tasks and model."""

    command: str = ""  # what starts it: other-environment/bin/lm_eval; empty: the one that is installed here
    limit: Count = 0  # items of each task; 0: all
    num_fewshot: int | None = None  # null: as its task says
    batch_size: AtLeastOne = 8
    form: Literal["auto", "chat", "text"] = "auto"  # chat: through the chat template; auto: where the model has one
    include_path: str = ""  # a folder with tasks of your own, in its YAML
    timeout: Positive = 24 * 3600.0  # seconds
    arguments: list[str] = field(default_factory=list)  # further ones of its command


def harness_settings(words: Sequence[str]) -> HarnessSettings:
    """Mistakes with all that is wrong with `key=value` words."""
    return settings_from(words, HarnessSettings, FOREIGN)


def run_harness(tasks: Sequence[str], models: Sequence[str], folder: Path, settings: HarnessSettings) -> Results:
    """Puts its numbers into `folder`/results.json and returns them. UserError, RunError."""
    ready(folder)
    wanted = [task for word in tasks for task in word.split(",") if task]
    command = command_of(settings)
    rows: list[Scored] = []
    failures: list[Failure] = []
    told: dict[str, Any] = {}
    names: list[str] = []
    for word in models:
        name, what = named(word)
        names.append(name)
        found = _asked([*command, *arguments_of(what, wanted, settings)], settings)
        told[name] = {key: found.get(key) for key in ("versions", "n-shot", "lm_eval_version")}
        rows += scored(name, found)
        failures += [
            Failure(what=f"{PREFIX}{task}", model=name, why="lm_eval gave no number for it")
            for task in wanted if task not in {*found.get("results", {}), *found.get("groups", {})}
        ]  # fmt: skip
    manifest = {"version": align.__version__, "command": shlex.join(sys.argv), "inputs": inputs_of(folder),
                "lm_eval": told}  # fmt: skip
    results = Results(
        title=f"{', '.join(wanted)} by lm-evaluation-harness", command=shlex.join(sys.argv), manifest=manifest,
        models=[{"name": name} for name in names], failures=failures, sections=Sections(scores=rows),
    )  # fmt: skip
    add(folder, results)
    return results


def command_of(settings: HarnessSettings) -> list[str]:
    """UserError where it is not installed."""
    if settings.command:
        words = shlex.split(settings.command)
        if not words or shutil.which(words[0]) is None:
            raise UserError(f"command={settings.command}: {words[0] if words else 'nothing'}: no such program")
        return [*words, "run"]
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError(
            "harness: lm-evaluation-harness is not installed here: pip install lm_eval, best into an environment of "
            "its own, and name it: command=other-environment/bin/lm_eval. Our own tasks need none: align-eval run"
        )
    return [sys.executable, "-m", "lm_eval", "run"]


def arguments_of(what: str, tasks: Sequence[str], settings: HarnessSettings) -> list[str]:
    """For one model. UserError for what is no folder of weights."""
    found = find(what)
    if found.checkpoint:
        raise UserError(f"{what}: is a checkpoint, which lm_eval cannot read; name the run's final/, or an export")
    places = where(found.section, found.init)
    adapter = f",peft={places.adapter}" if places.adapter else ""
    words = ["--model", "hf", "--model_args", f"pretrained={places.weights}{adapter}", "--tasks", ",".join(tasks),
             "--batch_size", str(settings.batch_size)]  # fmt: skip
    chat = settings.form == "chat" or (settings.form == "auto" and bool(load_tokenizer(found.section).chat_template))
    words += ["--apply_chat_template"] if chat else []
    words += ["--limit", str(settings.limit)] if settings.limit else []
    words += ["--num_fewshot", str(settings.num_fewshot)] if settings.num_fewshot is not None else []
    words += ["--include_path", settings.include_path] if settings.include_path else []
    return [*words, *settings.arguments]


def _asked(command: Sequence[str], settings: HarnessSettings) -> dict[str, Any]:
    """What it writes. RunError with the end of what it says where it fails."""
    with tempfile.TemporaryDirectory(prefix="align-eval-harness-") as place:
        try:
            done = subprocess.run(
                [*command, "--output_path", place], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, errors="replace", timeout=settings.timeout,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise RunError(f"lm_eval was not done within {settings.timeout:g} seconds; set timeout") from None
        files = sorted(Path(place).rglob("results_*.json"))
        if done.returncode or not files:
            said = "\n".join([line for line in done.stdout.splitlines() if line.strip()][-TAIL:])
            raise RunError(f"lm_eval ended with exit code {done.returncode} and no results; it said at last\n{said}")
        return json.loads(files[-1].read_text(encoding="utf-8"))


def scored(model: str, found: Mapping[str, Any]) -> list[Scored]:
    """A row for each of its numbers: of tasks and of groups."""
    rows: dict[tuple[str, str], Scored] = {}
    for part in ("results", "groups"):
        for task, numbers in (found.get(part) or {}).items():
            count = ((found.get("n-samples") or {}).get(task) or {}).get("effective") or numbers.get("sample_len") or 0
            for metric, estimate in estimates(numbers, int(count)):
                row = Scored(model=model, task=f"{PREFIX}{task}", metric=metric, estimate=estimate)
                rows[row.task, metric] = row
    return list(rows.values())


def estimates(numbers: Mapping[str, Any], count: int) -> Iterator[tuple[str, Estimate]]:
    """`acc,none` with `acc_stderr,none` becomes `acc`; another filter is named behind it."""
    for key, value in numbers.items():
        name, comma, kept = key.partition(",")
        if not comma or name.endswith(STDERR):
            continue
        metric = name if kept == "none" else f"{name} ({kept})"
        if not isinstance(value, int | float) or not math.isfinite(value):
            yield metric, Estimate(value=None, n=count, why=f"lm_eval gives {value!r}")
            continue
        share = 0 <= value <= 1 and name.startswith(("acc", "exact_match", "em", "pass", "mc"))
        yield metric, _interval(float(value), numbers.get(f"{name}{STDERR},{kept}"), count, share=share)


def _interval(value: float, stderr: Any, count: int, *, share: bool) -> Estimate:
    unit = "share" if share else ""
    if not isinstance(stderr, int | float) or not math.isfinite(stderr):
        return Estimate(value=value, n=count, unit=unit, why="lm_eval gives no standard error")
    half = z_of(LEVEL) * float(stderr)
    low, high = (max(0.0, value - half), min(1.0, value + half)) if share else (value - half, value + half)
    method = f"normal, lm_eval's standard error {stderr:.4g}"
    return Estimate(value=value, low=low, high=high, level=LEVEL, n=count, clusters=count or None, unit=unit,
                    method=method)  # fmt: skip
