"""What depends on what else the recipe says: a method's usual learning rate, knobs that follow another key, weights of
sources that another run has learned."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.data.settings import DataSection, DataSource
from align.errors import UserError
from align.methods.base import Method, OnlineMethod
from align.recipe.text import Written

FILE = "sources.json"  # of a run that has learned weights of sources


def with_rate(written: Written, method: Method[Any], sections: dict[str, Any]) -> tuple[str, ...]:
    """Puts the method's usual learning rate into `sections` where the recipe has none; returns what is to be said."""
    if written.has("optim.learning_rate"):
        return ()
    if rates := sections["optim"].learning_rate_of_round:
        sections["optim"] = dataclasses.replace(sections["optim"], learning_rate=rates[0])
        return ()
    rate = method.usual_rate
    sections["optim"] = dataclasses.replace(sections["optim"], learning_rate=rate)
    lora = "; with model.lora about ten times as much is usual" if sections["model"].lora else ""
    return (f"optim.learning_rate: {rate:g}, {method.name}'s default for a model of some billion weights{lora}",)


def with_minibatches(written: Written, method: Method[Any], sections: dict[str, Any]) -> tuple[str, ...]:
    """The same for the steps on an experience of rows that are there before; also what one step alone would mean."""
    key, training = "training.num_minibatches", sections["training"]
    if isinstance(method, OnlineMethod):
        return ()
    if not written.has(key):
        training = dataclasses.replace(training, num_minibatches=method.usual_minibatches)
    sections["training"], count = training, training.num_minibatches
    needs = method.needs()
    if count == 1 and any("logps" in needs.live(m) and "old_logps" in needs.stored(m) for m in needs.members):
        said = "an experience is one step, so the policy before it is the policy in it: every ratio between them is 1"
        return (f"{key}: 1: {said}, and no clip ever acts. Set it to 2 or more",)
    return (f"{key}: {count}, {method.name}'s default",) if count > 1 and not written.has(key) else ()


def with_followed(
    written: Written, method: Method[Any], sections: dict[str, Any]
) -> tuple[Method[Any], tuple[str, ...]]:
    """The method whose knobs that follow another key have that key's value, unless the recipe gives them one; and what
    is to be said of those that have another."""
    notes: list[str] = []
    for f in (f for f in dataclasses.fields(method) if "follows" in f.metadata):
        section, key = f.metadata["follows"].split(".")
        there, here = getattr(sections[section], key), getattr(method, f.name)
        if not written.has(f"method.{f.name}"):
            method = dataclasses.replace(method, **{f.name: there})
        elif here != there:
            notes.append(
                f"method.{f.name}: {here} is {here / there:.3g} times {section}.{key} ({there}), which it is where it "
                "is left out"
            )
    return method, tuple(notes)


# ---- weights that another run has learned ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Learned:
    """A source, and the weight that a run has learned for it."""

    source: str
    split: str
    columns: dict[str, str]
    weight: float


def weighted(written: Written, data: DataSection) -> tuple[DataSection, tuple[str, ...]]:
    """The section whose sources have the weights of `weights_from`, and what is to be said; mistakes are noted."""
    key = "data.weights_from"
    if not data.weights_from:
        return data, ()
    if isinstance(data.train, str):
        written.wrong(key, "weighs a list of sources; write data.train as one, or remove the key")
        return data, ()
    if own := [f"data.train.{i}.weight: {s.weight:g}" for i, s in enumerate(data.train) if s.weight != 1]:
        written.wrong(key, f"conflicts with {', '.join(own)}: keep one of them")
        return data, ()
    try:
        found = read_weights(Path(data.weights_from).expanduser())
    except UserError as error:
        written.wrong(key, str(error))
        return data, ()
    known = {_key(one): one.weight for one in found}
    wanted = [_key(source) for source in data.train]
    if known.keys() != set(wanted):
        there, here = (", ".join(sorted({k[0] for k in keys})) for keys in (known, wanted))
        finding = f"has learned the weights of {there}, and data.train lists {here}"
        written.wrong(key, f"{data.weights_from} {finding}; list the same sources, splits and columns")
        return data, ()
    train = [dataclasses.replace(s, weight=known[k]) for s, k in zip(data.train, wanted, strict=True)]
    told = ", ".join(f"{s.name or s.source} {s.weight:.3g}" for s in train)
    return dataclasses.replace(data, train=train, weights_from=""), (f"{key}: {data.weights_from}: {told}",)


def _key(one: Learned | DataSource) -> tuple[str, str, str]:
    return one.source, one.split, json.dumps(one.columns, sort_keys=True)


def read_weights(run: Path) -> list[Learned]:
    """What a finished run has learned. UserError where it has not, or the file is not as it was written."""
    file = run / FILE
    if not file.is_file():
        raise UserError(f"{run}: holds no {FILE}; expected the folder of a finished run that learns weights of sources")
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["sources"]
        found = [Learned(r["source"], r["split"], dict(r["columns"]), float(r["weight"])) for r in rows]
        if not found or not all(0 < one.weight <= 1 for one in found):
            raise ValueError("a weight is none")
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: not as a run writes it ({type(error).__name__}: {error})") from None
    return found
