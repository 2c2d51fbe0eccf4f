"""Defaults that depend on what else the recipe says: a method's usual learning rate, knobs that follow another key."""

from __future__ import annotations

import dataclasses
from typing import Any

from align.methods.base import Method, OnlineMethod
from align.recipe.text import Written


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
