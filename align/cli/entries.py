"""What `align methods` shows of a method, read from its class, and the table in which it is kept."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
from typing import Any, get_type_hints

from align.cli.methods import NO_DEFAULT, READ, Entry, sum_of
from align.methods.base import Method, OnlineMethod, find_method, method_names
from align.methods.metrics import OF_ONLINE, OF_PAIRS
from align.needs import TWIN
from align.recipe.text import recipe_names
from align.recipe.types import describe
from align.scoring.role_table import maker, models_of
from align.system.files import replace_file
from align.system.ranges import ranges_of


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
    knobs = {f.name: f.default for f in dataclasses.fields(cls) if "remembered" not in f.metadata}
    made = Entry(
        name=cls.name,
        title=page(cls).split("\n", 1)[0].rstrip("."),
        rows=needs.batch.kind,
        models=models,
        columns=list(columns),
        knobs={name: NO_DEFAULT if value is dataclasses.MISSING else value for name, value in knobs.items()},
        paper=cls.paper,
        recipe=f"recipes/{cls.name}.yaml" if cls.name in recipe_names() else "",
        kinds=_kinds(cls, list(knobs)),
        metrics=metrics_beside(cls),
        usual=_usual(cls),
    )
    return Entry(**json.loads(json.dumps(dataclasses.asdict(made), default=str)))  # as it is read from the table


def page(cls: type[Any]) -> str:
    return inspect.getdoc(sys.modules[cls.__module__]) or inspect.getdoc(cls) or ""


def _kinds(cls: type[Method[Any]], knobs: list[str]) -> dict[str, str]:
    hints, ranges = get_type_hints(cls), ranges_of(cls)
    ranged = {knob: [str(ranges[knob])] if knob in ranges else [] for knob in knobs}
    return {knob: ", ".join([describe(hints[knob]), *ranged[knob]]) for knob in knobs}


def _usual(cls: type[Method[Any]]) -> dict[str, Any]:
    several = {"training.num_minibatches": cls.usual_minibatches} if cls.usual_minibatches > 1 else {}
    return {"optim.learning_rate": f"{cls.usual_rate:g}", **several}


def metrics_beside(cls: type[Method[Any]]) -> dict[str, str]:
    """What the method reports as all of its kind do, in words, but for what its own page explains."""
    needs, found = cls.needs(), dict[str, str]()
    if issubclass(cls, OnlineMethod):
        found |= OF_ONLINE
    elif needs.batch.kind == "pairs" and all("logps" in needs.live(m) for m in needs.members):
        found |= OF_PAIRS
    return {name: meaning for name, meaning in found.items() if f"`{name}`" not in page(cls)}


def as_table() -> str:
    """All methods of this package: one a line, so that two who change two of them do not meet."""
    made = {name: dataclasses.asdict(entry(find_method(name))) for name in method_names()}
    lines = [f"{json.dumps(n)}: {json.dumps({'sum': sum_of(n), 'entry': one})}" for n, one in made.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def write_table() -> str:
    """Makes it anew; returns what to say of it."""
    made = as_table()
    if READ.exists() and READ.read_text(encoding="utf-8") == made:
        return f"{READ}: the table is that of the methods"
    replace_file(READ, made)
    return f"{READ}: the table is made anew"
