"""Who the judges of an evaluation are: one file for each name, so that a name never means two judges."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.system.files import aside_of, inner_folder, replace_file
from align.system.lines import safe_name
from align_eval.store.differing import differing

JUDGES = "judges"


@dataclass(frozen=True)
class Note:
    """What a judge's verdicts depend on, and the form of its replies, which is needed to read them anew."""

    name: str
    identity: Mapping[str, Any]
    shape: Mapping[str, Any] | None = None

    def begin(self, folder: Path, *, binding: bool) -> None:
        """Writes it down. Where verdicts were kept under an earlier one (`binding`), UserError unless that is the same;
        one under which nothing came, as of a mistyped address, is replaced."""
        path = self._path(folder)
        text = json.dumps(self._told, indent=1) + "\n"
        if not path.exists():
            aside = path.with_name(f"{aside_of(path).name}.{os.getpid()}")
            replace_file(aside, text)
            try:
                os.link(aside, path)  # the first of several processes counts
            except FileExistsError:
                pass
            finally:
                aside.unlink()
        elif not binding and _read(path) != self._told:
            replace_file(path, text)
        self.hold(folder)

    def hold(self, folder: Path) -> None:
        """UserError where the name is another judge's here: verdicts of both would be mixed."""
        differ = differing(_read(self._path(folder))["identity"], self._told["identity"])
        if differ:
            raise UserError(
                f"{folder}: {self.name} is another judge here: {differ}. Nothing is mixed: give this one a name of its "
                "own (name=...), put the old values back, or take a new folder"
            )

    @property
    def _told(self) -> dict[str, Any]:
        shape = {"shape": dict(self.shape)} if self.shape else {}
        return json.loads(json.dumps({"name": self.name, "identity": dict(self.identity), **shape}))

    def _path(self, folder: Path) -> Path:
        return inner_folder(folder / JUDGES) / f"{safe_name(self.name)}.json"


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
