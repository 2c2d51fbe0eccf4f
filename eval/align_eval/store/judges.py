"""Who the judges of an evaluation are: one file for each name, so that a name never means two judges."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import aside_of, inner_folder, replace_file
from align.system.lines import safe_name

JUDGES = "judges"


def note_judge(folder: Path, name: str, identity: Mapping[str, Any], shape: Mapping[str, Any] | None = None) -> None:
    """Notes what a judge's verdicts depend on, and the form of its replies, which is needed to read them anew.
    UserError where the name is another judge's here."""
    path = inner_folder(folder / JUDGES) / f"{safe_name(name)}.json"
    told = {"name": name, "identity": dict(identity), **({"shape": dict(shape)} if shape else {})}
    if not path.exists():
        aside = path.with_name(f"{aside_of(path).name}.{os.getpid()}")
        replace_file(aside, json.dumps(told, indent=1) + "\n")
        try:
            os.link(aside, path)  # the first of several processes counts
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    before = _read(path)["identity"]
    if before != told["identity"]:
        keys = [key for key in {**before, **told["identity"]} if before.get(key) != told["identity"].get(key)]
        raise UserError(
            f"{folder}: has verdicts of {name}, and that was another judge: {', '.join(keys)} differ "
            f"({_short(before, keys)}; now {_short(told['identity'], keys)}). Call this one otherwise: name=..."
        )


def read_judges(folder: Path) -> dict[str, dict[str, Any]]:
    """Judge -> {name, identity, shape where it has one}; empty where none has judged through `judge`."""
    found = [_read(path) for path in sorted((Path(folder) / JUDGES).glob("*.json"))]
    return {str(one["name"]): one for one in found}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert isinstance(found["name"], str)
        assert isinstance(found["identity"], dict)
        return found
    except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
        finding = f"{path}: is no note of a judge ({type(error).__name__})"
        raise UserError(f"{finding}; restore it, or use a new folder") from None


def _short(identity: Mapping[str, Any], keys: list[str]) -> str:
    return ", ".join(f"{key} {json.dumps(identity.get(key))}" for key in keys)[:300]
