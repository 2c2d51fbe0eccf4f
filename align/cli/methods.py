"""`align methods`: what each method needs, its knobs, its paper and its recipe.

All of it is read from the classes themselves (`entries`), which takes the seconds that torch takes to be imported. So
what was read stands in `methods.json`, each method with the sum of its file; where that is another one, the class is
read again. `--markdown --write` makes the table anew, and a test holds it against the classes.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import align
from align.errors import UserError
from align.methods.lookup import method_names
from align.recipe.text import shipped
from align.system.files import replace_file

AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
BEGIN, END = "<!-- methods: made by `align methods --markdown` -->", "<!-- end of methods -->"  # in README.md
READ = Path(__file__).with_name("methods.json")
NO_DEFAULT = "..."


@dataclass(frozen=True)
class Entry:
    """One method as the tables and its page show it."""

    name: str
    title: str  # the first line of its file
    rows: str
    models: list[str]  # beside the policy
    columns: list[str]  # all that the loss reads
    knobs: dict[str, Any]
    paper: str
    recipe: str
    kinds: dict[str, str] = field(default_factory=dict)  # knob -> which values it takes
    metrics: dict[str, str] = field(default_factory=dict)  # that its page does not name, as all of its kind have them
    usual: dict[str, Any] = field(default_factory=dict)  # key of other sections -> the method's default


def entries() -> list[Entry]:
    listed = _listed()
    return [_entry(name, listed) for name in method_names()]


def _listed() -> dict[str, Any]:
    return json.loads(READ.read_text(encoding="utf-8")) if READ.exists() else {}


def _entry(name: str, listed: Mapping[str, Any]) -> Entry:
    """UserError where there is no such method."""
    if name in listed and file_of(name).exists() and listed[name]["sum"] == sum_of(name):
        return Entry(**listed[name]["entry"])
    from align.cli.entries import entry
    from align.methods.base import find_method

    return entry(find_method(name))


def file_of(name: str) -> Path:
    return Path(align.__file__).with_name("methods") / f"{name}.py"


def sum_of(name: str) -> str:
    """Short: it tells versions of one file apart."""
    return hashlib.sha256(file_of(name).read_bytes()).hexdigest()[:16]


def _page(name: str) -> str:
    if ":" in name:
        from align.cli.entries import page
        from align.methods.base import find_method

        return page(find_method(name))
    return inspect.cleandoc(ast.get_docstring(ast.parse(file_of(name).read_text(encoding="utf-8"))) or "")


def as_markdown() -> str:
    """The README's table."""
    lines = ["| method | what | rows | beside the policy | knobs | paper |", "| --- | --- | --- | --- | --- | --- |"]
    for e in entries():
        name = f"[`{e.name}`]({e.recipe})" if e.recipe else f"`{e.name}`"
        lines.append(
            f"| {name} | {e.title} | {e.rows} | {', '.join(e.models) or '-'} | {_knobs(e)} | {_linked(e.paper)} |"
        )
    return "\n".join(lines) + "\n"


def write_markdown(readme: Path) -> str:
    """Puts the table between its marks in `readme`; returns what to say of it. UserError where they are not there."""
    try:
        before, _, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    except OSError as error:
        raise UserError(f"{readme}: cannot be read: {error.strerror}; go to the root of a checkout") from None
    table, end, after = rest.partition(END)
    if not end:
        raise UserError(f"{readme}: has no lines {BEGIN} and {END}, between which the table stands")
    made = f"\n{as_markdown()}"
    if made == table:
        return f"{readme}: the table is that of the methods"
    replace_file(readme, f"{before}{BEGIN}{made}{END}{after}")
    return f"{readme}: the table is made anew"


def _knobs(e: Entry) -> str:
    return ", ".join(f"`{k}: {_value(v)}`" for k, v in e.knobs.items()) or "-"


def _value(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool | None) else str(value)


def _linked(paper: str) -> str:
    number = paper.removeprefix("arXiv:")
    return f"[{number}](https://arxiv.org/abs/{number})" if paper.startswith("arXiv:") else paper or "-"


def as_json() -> str:
    return json.dumps([dataclasses.asdict(e) for e in entries()], indent=2, default=str)


def say_all(console: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("method", "what", "rows", "beside the policy", "paper"):
        table.add_column(column, no_wrap=column in ("method", "paper"))
    for e in entries():
        table.add_row(e.name, e.title, e.rows, ", ".join(e.models) or "-", e.paper or "-")
    console.print(table)
    console.print(
        "`align methods NAME` shows one method's page; `align train NAME` runs its shipped recipe", **AS_IT_IS
    )


def say_one(name: str, console: Console) -> None:
    """A method's page: its docstring, its needs, its knobs, its recipe with the comments."""
    e = _entry(name, _listed())
    console.print(f"{e.name}  {e.paper}\n", style="bold", **AS_IT_IS)
    console.print(_page(name), **AS_IT_IS)
    if e.metrics:
        console.print("\nMetrics of every such method:", **AS_IT_IS)
    for metric, meaning in e.metrics.items():
        console.print(f"    `{metric}` {meaning}", **AS_IT_IS)
    console.print(f"\nrows: {e.rows}\nbeside the policy: {', '.join(e.models) or 'nothing'}", **AS_IT_IS)
    console.print(f"columns that the loss reads: {', '.join(e.columns)}\n", **AS_IT_IS)
    for knob, default in e.knobs.items():
        console.print(f"method.{knob}: {e.kinds[knob]}, default {_value(default)}", **AS_IT_IS)
    if not e.knobs:
        console.print("no knobs", **AS_IT_IS)
    for key, value in e.usual.items():
        console.print(f"{key}: default {value}", **AS_IT_IS)
    if e.recipe:
        console.print(f"\n# {e.recipe}", **AS_IT_IS)
        text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        console.print(text.rstrip(), **AS_IT_IS)
