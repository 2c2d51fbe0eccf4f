"""The benchmarks that `align-eval run` knows, off their files, and the settings of answers and verdicts."""

from __future__ import annotations

import yaml

from align.judges.named import JudgeSpec
from align_eval.generation.settings import Settings
from align_eval.judging.settings import Judging
from docs.generate.files import REPOSITORY
from docs.generate.tables import cell, table


def tasks() -> str:
    files = sorted(REPOSITORY.glob("eval/align_eval/tasks/*.yaml"))
    rows = "".join(_row(path.read_text(encoding="utf-8")) for path in files)
    return f"| task | version | what it is | licence of its rows |\n| --- | --- | --- | --- |\n{rows}"


def _row(text: str) -> str:
    task = yaml.safe_load(text)
    return f"| `{task['name']}` | {task['version']} | {cell(task['about'])} | {cell(task['licence'])} |\n"


def answering() -> str:
    """Of `align-eval generate` and `run`."""
    return table(Settings)


def judging() -> str:
    """Of `align-eval judge`: what is asked, and what a judge has for details."""
    return f"{table(Judging)}\n\nOf a judge, also in a YAML file, where `judge` names it:\n\n{table(JudgeSpec)}"
