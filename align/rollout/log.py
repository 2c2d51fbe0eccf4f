"""`rollouts/`: what the policy wrote, a file for each experience, a line for each completion.

The file of the experience under way lets a run that was killed while writing go on after its last finished chunk. A
line says which run wrote it, by the digest of all that its numbers depend on, and has a sum of its content: what
another recipe wrote, or what is not as it was written, is never learned from. Where a completion has two lines the
last one counts: it has the verdicts of rewards that compare, too, which come once all completions are written.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from align.errors import RunError, UserError
from align.rollout.writer import Trajectory, from_line, line
from align.runfolder.logs import read_log
from align.system.files import inner_folder, open_end
from align.system.lines import drop_torn_end
from align.system.sums import SUM, sealed, unsealed
from align.world.distributed import World

BY = "by"  # the key of the digest of the run that wrote a line
KEPT = 2  # files of the last experiences, where they are not to be recorded


class RolloutLog:
    """Written by the main process, read by it and told to the others."""

    def __init__(
        self, folder: Path, *, record: bool, main: bool, replay: Path | None = None, by: str = "",
        say: Callable[[str], Any] = print,
    ):  # fmt: skip
        self.folder, self.record, self.main, self.replay, self.by, self.say = folder, record, main, replay, by, say

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.jsonl"

    def found(self, number: int, versions: Sequence[int], world: World) -> list[Trajectory]:
        """What is there of this experience by this run and the weights of these steps; anything else is dropped."""
        found: list[Trajectory] = []
        if self.main and self.path(number).exists():
            drop_torn_end(self.path(number))  # of a chunk that a killed process was writing
            rows = self._rows(self.path(number))
            if rows is not None and all(row.pop(BY) == self.by and row["version"] in versions for row in rows):
                found = _by_place(rows)
            else:
                self.path(number).unlink()
        return world.everyone(found)[0]

    def lines(self, number: int) -> list[Trajectory]:
        """What is there of this experience by this run, on the main process."""
        rows = self._rows(self.path(number)) if self.main else None
        return _by_place([row for row in rows or () if row.pop(BY) == self.by])

    def _rows(self, path: Path) -> list[dict[str, Any]] | None:
        """The whole lines of a file; None, aloud, where one of them is not as it was written."""
        try:
            return list(_whole(path))
        except (UserError, ValueError) as error:
            self.say(f"{error}: what is in this file is written again")
            return None

    def put_back(self, number: int, written: Sequence[Trajectory]) -> None:
        """An experience as a checkpoint has it, in place of whatever is there."""
        self.drop(number)
        self.append(number, written)

    def forget(self, number: int, step: int) -> None:
        """Drops what weights after `step` wrote of this experience and of all later ones.

        A run that goes on from `step` has other weights then, or the same ones made again and not bitwise for certain:
        the number of a step alone does not say that they wrote it.
        """
        if not self.main:
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            late = path.stem.isdecimal() and int(path.stem) >= number
            rows = self._rows(path) if late else []
            if rows is None or any(row["version"] > step for row in rows):
                path.unlink()

    def drop(self, number: int) -> None:
        if self.main:
            self.path(number).unlink(missing_ok=True)

    def replayed(self, number: int, world: World) -> list[Trajectory]:
        """What the run in `replay` recorded of this experience, whoever wrote it. RunError where it has nothing."""
        found: list[Trajectory] = []
        trouble = ""
        if self.main:
            assert self.replay is not None
            path = self.replay / "rollouts" / self.path(number).name
            try:
                found = [from_line({k: v for k, v in row.items() if k != BY}) for row in _whole(path)]
                trouble = "" if found else f"rollout.replay: {path} is not there or empty; record as long a run first"
            except (UserError, ValueError, TypeError) as error:
                trouble = f"rollout.replay: {error}; record the run again"
        if text := world.everyone(trouble)[0]:
            world.fail(text)
        return world.everyone(found)[0]

    def append(self, number: int, chunk: Sequence[Trajectory]) -> None:
        """A finished chunk. A power cut may lose it, and it is written again; a killed process cannot."""
        if not self.main:
            return
        path = self.path(number)
        try:
            inner_folder(self.folder)
            with open_end(path) as out:
                out.write("".join(json.dumps(sealed({**line(t, number), BY: self.by})) + "\n" for t in chunk))
                out.flush()
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error}; make room, then go on with --resume") from error
        if not self.record:
            self.path(number - KEPT).unlink(missing_ok=True)


def _whole(path: Path) -> Iterator[dict[str, Any]]:
    """Lines as they were written; UserError or ValueError names the first that is not. Older ones have no sum."""
    for number, row in enumerate(read_log(path), start=1):
        try:
            yield unsealed(row) if SUM in row else {BY: "", **row}
        except ValueError as error:
            raise ValueError(f"{path}:{number}: {error}") from None


def _by_place(rows: Sequence[dict[str, Any]]) -> list[Trajectory]:
    """The last of each completion."""
    return [from_line(row) for row in {(row["number"], row["place"]): row for row in rows}.values()]
