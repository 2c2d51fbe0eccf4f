"""What a task is, and how its YAML file is read: every mistake in it at once, unknown keys with a suggestion.

Prompts, references and choices are Jinja templates over a row's columns; a column that a row lacks is a mistake that
names the row. A task has a version, which is raised whenever a score may change.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from align.errors import Mistakes, UserError, did_you_mean
from align.recipe.text import Written, read
from align.recipe.types import build
from align.system.ranges import AtLeastOne, Count
from align.system.sums import digest_of, sha256_of

HERE = Path(__file__).parent
DATA = HERE / "data"


@dataclass(frozen=True, kw_only=True)
class Shots:
    """Worked examples that stand before the question."""

    rows: str  # a file, as Task.rows
    count: Count = 0  # that are shown; `shots=5` on the command line says another number
    prompt: str = ""  # template over an example's columns; empty: the task's own prompt
    answer: str  # likewise: what is answered
    by: str = ""  # a column: only examples with the item's own value of it


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """How the answer is found in what was written. See `align_eval.scorers.extract`."""

    by: Literal["after", "boxed", "final_answer", "letter", "last_line", "whole", "pattern", "code"]
    marker: str = ""  # of `after`: what stands before the answer
    pattern: str = ""  # of `pattern`: a regular expression whose first group is the answer; the last match counts
    letters: str = "ABCDE"  # of `letter`: those that may be chosen


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """How an answer is judged. See `align_eval.scorers`."""

    by: Literal["math", "text", "ifeval", "code", "choice", "truth", "pair", "none"]
    timeout: float = 10.0  # of `code`: seconds that a program may run
    memory: AtLeastOne = 1024  # of `code`: MiB that it may take
    k: list[AtLeastOne] = field(default_factory=lambda: [1])  # of `code`: pass@k


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything about a task but its rows."""

    name: str
    version: AtLeastOne
    about: str = ""
    licence: str = ""
    source: str = ""
    rows: str  # a file beside this one, in data/ of the package, or by its whole path
    id: str = ""  # template; empty: the number of the row
    prompt: str  # template
    reference: str = ""  # template: the right answer
    gold: str = ""  # template: what a model that knows the answer would write; `--model gold` writes it
    category: str = ""  # template
    columns: list[str] = field(default_factory=list)  # of a row, kept with its item for the scorer
    shots: Shots | None = None
    mode: Literal["write", "choose"] = "write"  # choose: the likeliest of `choices` by log-probability
    choices: str = ""  # of `choose`: a Jinja expression over the columns that gives a list of texts
    gap: str = " "  # of `choose`: what stands between prompt and choice where no chat template is used
    ended: bool = False  # of `choose`: whether the end of the turn counts among a choice's tokens
    max_completion_length: AtLeastOne = 512  # tokens, where neither the command nor the run's recipe says another
    stop_strings: list[str] = field(default_factory=list)  # beside those of the run's recipe
    extract: dict[str, Extractor] = field(default_factory=dict)  # name -> how; `strict` and `flexible`
    score: Scorer
    headline: str  # the metric that is told first
    file: str = ""  # where it was read; set by `load`

    @property
    def scored_metric(self) -> str:
        """Of the scores that the headline is made of."""
        return "passed" if self.score.by == "code" else self.headline

    @property
    def rows_file(self) -> Path:
        """UserError where there is none."""
        return _file(self, self.rows)

    @property
    def shots_file(self) -> Path | None:
        return _file(self, self.shots.rows) if self.shots else None

    def identity(self) -> dict[str, Any]:
        """All that an item and its score depend on: the task as it is written, and the sums of its files."""
        said = {k: v for k, v in asdict(self).items() if k not in ("about", "licence", "source", "file")}
        files = {"rows": sha256_of(self.rows_file)}
        if shots := self.shots_file:
            files["shots"] = sha256_of(shots)
        return {"name": self.name, "version": self.version, "task": digest_of(said), "files": files}


def task_names() -> list[str]:
    """Those that ship."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def load(name: str) -> Task:
    """A shipped task's name, or the path of a YAML file. Mistakes with all that is wrong with it."""
    path = Path(name).expanduser()
    if name in task_names():
        path = HERE / f"{name}.yaml"
    elif path.suffix not in (".yaml", ".yml") or not path.is_file():
        known = f"{', '.join(task_names())}, or give the path of a YAML file"
        raise UserError(f"{name}: no such task; there are {known}.{did_you_mean(name, task_names())}")
    return _checked(read(path), path)


def _checked(written: Written, path: Path) -> Task:
    label = path.name if path.parent == HERE else str(path)
    extract = written.values.pop("extract", None)
    written.label = label
    values = {**written.values, "file": str(path)}
    if "file" in written.values:
        written.wrong("file", "no such key; where a task was read is known")
    made = build(written, "task", Task, values)
    extractors = _extractors(written, {} if extract is None else extract)
    if made is not None and not written.mistakes:
        _fits(written, made, extractors)
    if written.mistakes or made is None:
        raise Mistakes(dict.fromkeys(m.replace(": task.", ": ", 1) for m in written.mistakes))
    return replace(made, extract=extractors)


def _extractors(written: Written, values: Any) -> dict[str, Extractor]:
    """Each by its name; the section's own keys are free."""
    if not isinstance(values, dict):
        written.wrong("extract", "expected names with a section each, such as strict: {by: after, marker: '####'}")
        return {}
    made = {str(name): build(written, f"task.extract.{name}", Extractor, section) for name, section in values.items()}
    return {name: one for name, one in made.items() if one is not None}


def _fits(written: Written, task: Task, extractors: dict[str, Extractor]) -> None:
    """What no key alone can be wrong in."""
    choosing = task.score.by in ("choice", "truth", "pair")
    if choosing != (task.mode == "choose"):
        mode = "choose" if choosing else "write"
        written.wrong("mode", f"found {task.mode}; score.by: {task.score.by} needs {mode}")
    if task.mode == "choose" and not task.choices:
        written.wrong("choices", 'missing; mode: choose needs a list, such as "[chosen, rejected]"')
    if task.score.by in ("math", "text") and not extractors:
        example = "flexible: {by: final_answer}"
        written.wrong("extract", f"missing; score.by: {task.score.by} needs one, such as {example}")
    if task.score.by in ("math", "text", "choice") and not task.reference:
        written.wrong("reference", f"missing; score.by: {task.score.by} compares with it")
    metrics = metrics_of(replace(task, extract=extractors))
    if task.headline not in metrics:
        written.wrong("headline", f"found {task.headline}; expected one of {', '.join(metrics)}")
    for name, one in extractors.items():
        needed = {"after": "marker", "pattern": "pattern"}.get(one.by)
        if needed and not getattr(one, needed):
            written.wrong(f"extract.{name}.{needed}", f"missing; by: {one.by} needs it")


def metrics_of(task: Task) -> list[str]:
    """Those that may be the headline."""
    lengths = ("", "_per_token", "_per_byte")
    return {
        "choice": [*(f"accuracy{kind}" for kind in lengths), "probability"],
        "pair": [f"accuracy{kind}" for kind in lengths],
        "truth": ["mc1", "mc2", "mc1_per_token", "mc2_per_token"],
        "ifeval": [f"{level}_{how}" for level in ("prompt", "instruction") for how in ("strict", "loose")],
        "code": [f"pass@{k}" for k in task.score.k],
        "none": ["none"],
    }.get(task.score.by, [f"accuracy_{name}" for name in task.extract])


def _file(task: Task, name: str) -> Path:
    """Beside the task's file, in data/ of the package, or by its whole path."""
    places = [Path(task.file).parent / name, DATA / name, Path(name).expanduser()]
    found = next((p for p in places if p.is_file()), None)
    if found is None:
        place = f"{task.file or task.name}: rows: {name}"
        raise UserError(f"{place}: no such file, neither beside the task nor among those that ship")
    return found
