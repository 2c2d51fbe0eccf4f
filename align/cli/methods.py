"""`align methods`: what each method needs, its knobs, its paper and its recipe, read from the classes themselves."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from rich.console import Console
from rich.table import Table

from align.errors import UserError
from align.methods.base import Method, OnlineMethod, find_method, method_names
from align.methods.metrics import OF_ONLINE, OF_PAIRS
from align.needs import TWIN
from align.recipe.text import recipe_names, shipped
from align.recipe.types import describe
from align.scoring.role_table import maker, models_of
from align.system.files import replace_file
from align.system.ranges import ranges_of

AS_IT_IS: dict[str, Any] = {"markup": False, "highlight": False, "soft_wrap": True}
BEGIN, END = "<!-- methods: made by `align methods --markdown` -->", "<!-- end of methods -->"  # in README.md


@dataclass(frozen=True)
class Entry:
    """One method as the tables show it."""

    name: str
    title: str  # the first line of its file
    rows: str
    models: tuple[str, ...]  # beside the policy
    columns: tuple[str, ...]  # all that the loss reads
    knobs: dict[str, Any]
    paper: str
    recipe: str


def entry(cls: type[Method[Any]]) -> Entry:
    needs = cls.needs()
    columns = dict.fromkeys(c for m in needs.members for c in (*needs.live(m), *needs.stored(m)))
    models = [maker(role).words for role in models_of(needs)]
    if "values" in columns:
        models.append("critic")
    if "scores" in columns:
        models.append("scalar head")
    if cls.levels is not Method.levels:
        models.append(TWIN)
    return Entry(
        name=cls.name,
        title=_page(cls).split("\n", 1)[0].rstrip("."),
        rows=needs.batch.kind,
        models=tuple(models),
        columns=tuple(columns),
        knobs={f.name: f.default for f in dataclasses.fields(cls) if "remembered" not in f.metadata},
        paper=cls.paper,
        recipe=f"recipes/{cls.name}.yaml" if cls.name in recipe_names() else "",
    )


def entries() -> list[Entry]:
    return [entry(find_method(name)) for name in method_names()]


def _page(cls: type[Any]) -> str:
    return inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or ""


def metrics_beside(cls: type[Method[Any]]) -> dict[str, str]:
    """What the method reports as all of its kind do, in words, but for what its own page explains."""
    needs, found = cls.needs(), dict[str, str]()
    if issubclass(cls, OnlineMethod):
        found |= OF_ONLINE
    elif needs.batch.kind == "pairs" and all("logps" in needs.live(m) for m in needs.members):
        found |= OF_PAIRS
    return {name: meaning for name, meaning in found.items() if f"`{name}`" not in _page(cls)}


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
    if value is dataclasses.MISSING:
        return "..."
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
    cls = find_method(name)
    e = entry(cls)
    console.print(f"{e.name}  {e.paper}\n", style="bold", **AS_IT_IS)
    console.print(_page(cls), **AS_IT_IS)
    if shared := metrics_beside(cls):
        console.print("\nMetrics of every such method:", **AS_IT_IS)
    for metric, meaning in shared.items():
        console.print(f"    `{metric}` {meaning}", **AS_IT_IS)
    console.print(f"\nrows: {e.rows}\nbeside the policy: {', '.join(e.models) or 'nothing'}", **AS_IT_IS)
    console.print(f"columns that the loss reads: {', '.join(e.columns)}\n", **AS_IT_IS)
    hints, ranges = get_type_hints(cls), ranges_of(cls)
    for knob, default in e.knobs.items():
        kind = ", ".join([describe(hints[knob]), *([str(ranges[knob])] if knob in ranges else [])])
        console.print(f"method.{knob}: {kind}, default {_value(default)}", **AS_IT_IS)
    if not e.knobs:
        console.print("no knobs", **AS_IT_IS)
    console.print(f"optim.learning_rate: default {cls.usual_rate:g}", **AS_IT_IS)
    if cls.usual_minibatches > 1:
        console.print(f"training.num_minibatches: default {cls.usual_minibatches}", **AS_IT_IS)
    if e.recipe:
        console.print(f"\n# {e.recipe}", **AS_IT_IS)
        text = (shipped("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        console.print(text.rstrip(), **AS_IT_IS)
