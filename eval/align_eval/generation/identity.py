"""When two writings are one: the same model, task and decoding. One name in one folder has one, never two mixed.

`generation/MODEL.json` says what was written by whom. A command that would add answers of another model, of a task that
has changed, or by other decoding is refused, and told what differs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import inner_folder, write_json
from align.system.lines import safe_name
from align_eval.generation.asked import Model

FOLDER = "generation"
SHOWN = 6  # differences that a message names
LONGEST = 60  # characters of a value in a message


def hold(folder: Path, model: Model, task: str, told: Mapping[str, Any]) -> None:
    """Notes a writing that is about to begin. UserError where the folder holds another one of that name."""
    path = folder / FOLDER / f"{safe_name(model.name)}.json"
    now = json.loads(json.dumps({"name": model.name, "model": model.identity(), "tasks": {task: told}}))
    before = read_identity(path)
    if before:
        differ = list(_differences(before["model"], now["model"], "model"))
        differ += list(_differences(before["tasks"].get(task, now["tasks"][task]), now["tasks"][task], task))
        if differ:
            more = f"; and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
            raise UserError(
                f"{path}: {model.name} has answers in this folder that were written otherwise: "
                f"{'; '.join(differ[:SHOWN])}{more}. Nothing is mixed: write NAME=... before the model, put the old "
                "values back, or take a new --out"
            )
        now["tasks"] = before["tasks"] | now["tasks"]
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


def _differences(before: Any, now: Any, place: str) -> Iterator[str]:
    """Dotted keys whose values differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{place}.{key}")
    elif before != now:
        yield f"{place}: was {_short(before)}, now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
