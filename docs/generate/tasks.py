"""The benchmarks that `align-eval run` knows, off their files."""

from __future__ import annotations

import yaml

from docs.generate.files import REPOSITORY
from docs.generate.tables import cell


def tasks() -> str:
    files = sorted(REPOSITORY.glob("eval/align_eval/tasks/*.yaml"))
    rows = "".join(_row(path.read_text(encoding="utf-8")) for path in files)
    return f"| task | version | what it is | licence of its rows |\n| --- | --- | --- | --- |\n{rows}"


def _row(text: str) -> str:
    task = yaml.safe_load(text)
    return f"| `{task['name']}` | {task['version']} | {cell(task['about'])} | {cell(task['licence'])} |\n"
