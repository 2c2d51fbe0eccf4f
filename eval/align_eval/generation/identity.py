"""When two writings are one: the same model, task and decoding. One name in one folder has one, never two mixed.

`generation/MODEL.json` says what was written by whom. A command that would add answers of another model, of a task that
has changed, or by other decoding is refused, and told what differs.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import inner_folder, write_json
from align.system.lines import safe_name
from align_eval.generation.asked import Model
from align_eval.store.differing import differing

FOLDER = "generation"
LENGTH = "max_completion_length"  # tokens; without a word a run's own, and the task's for other models
GIVEN = ("gold", "recorded")  # kinds of models whose answers are only read
SAMPLED = ("temperature", "top_k", "top_p", "min_p")


def hold(
    folder: Path, model: Model, task: str, told: Mapping[str, Any], *, binding: tuple[bool, bool] = (True, True)
) -> None:
    """Notes a writing that is about to begin. UserError where the folder holds another one of that name.

    `binding`: whether there is anything that this model wrote, and that it wrote to this task. Under a note of which
    nothing came, such as one with a mistyped address, nothing can be mixed: it is replaced.
    """
    path = folder / FOLDER / f"{safe_name(model.name)}.json"
    now = json.loads(json.dumps({"name": model.name, "model": model.identity(), "tasks": {task: told}}))
    before = read_identity(path)
    if before and binding[0]:
        tasks = before["tasks"]
        mine = tasks.get(task, now["tasks"][task]) if binding[1] else now["tasks"][task]
        differ = differing({"model": before["model"], task: mine}, {"model": now["model"], **now["tasks"]})
        if differ:
            raise UserError(
                f"{path}: {model.name} has answers in this folder that were written otherwise: {differ}. Nothing is "
                "mixed: write NAME=... before the model, put the old values back, or take a new --out"
            )
        now["tasks"] = tasks | now["tasks"]
    if now != before:
        inner_folder(path.parent)
        write_json(path, now)


def read_identity(path: Path) -> dict[str, Any]:
    """Empty where there is none. UserError for a damaged one."""
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(found["model"], dict)
        assert isinstance(found["tasks"], dict)
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        raise UserError(f"{path}: cannot be read: {error}; take a new --out") from None
    return found


def identities(folder: Path) -> dict[str, Any]:
    """By the true name of each model that has written here."""
    found = (read_identity(path) for path in sorted((folder / FOLDER).glob("*.json")))
    return {one["name"]: one for one in found}


def unlike(folder: Path, tasks: Collection[str] = ()) -> list[str]:
    """A warning for each task (of `tasks`; none named: all) whose models were not made to write alike: what comes of
    that looks like a difference of the models."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    writers = {name: one for name, one in identities(folder).items() if one["model"].get("kind") not in GIVEN}
    for name, one in writers.items():
        for task, told in one["tasks"].items():
            plan, decoding = told.get("plan") or {}, told.get("decoding") or {}
            if plan.get("mode") == "write" and (not tasks or task in tasks):
                sampled = {key: decoding[key] for key in SAMPLED if key in decoding}
                found.setdefault(task, {})[name] = {LENGTH: plan.get(LENGTH), **sampled}
    return [f"{task}: {words}" for task, models in found.items() for words in _unlike(models)]


def _unlike(models: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for key in (LENGTH, *SAMPLED):
        values = {name: settings[key] for name, settings in models.items() if settings.get(key) is not None}
        if len(set(values.values())) > 1:
            each = ", ".join(f"{value} for {name}" for name, value in values.items())
            yield f"the models did not write alike: {key} is {each}; say {key}=VALUE for all of them, under a new --out"
