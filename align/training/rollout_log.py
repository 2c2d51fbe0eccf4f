"""`rollouts/`: what the policy wrote, a file for each experience, a line for each completion.

The file of the experience under way lets a run that was killed while writing go on after its last finished chunk.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from align.errors import RunError
from align.files import inner_folder, open_end
from align.training.distributed import World
from align.training.metrics import drop_torn_end, read_lines
from align.training.writing import Trajectory, from_line, line

KEPT = 2  # files of the last experiences, where they are not to be recorded


class RolloutLog:
    """Written by the main process, read by it and told to the others."""

    def __init__(self, folder: Path, *, record: bool, main: bool, replay: Path | None = None):
        self.folder, self.record, self.main, self.replay = folder, record, main, replay

    def path(self, phase: int) -> Path:
        return self.folder / f"{phase:06d}.jsonl"

    def found(self, phase: int, versions: Sequence[int], world: World) -> list[Trajectory]:
        """What is there of this experience by the weights of these steps."""
        found: list[Trajectory] = []
        if self.main and self.path(phase).exists():
            drop_torn_end(self.path(phase))  # of a chunk that a killed process was writing
            found = self.lines(phase)
            if any(t.version not in versions for t in found):
                self.path(phase).unlink()
                found = []
        return world.everyone(found)[0]

    def lines(self, phase: int) -> list[Trajectory]:
        """What is there of this experience, on the main process."""
        if not (self.main and self.path(phase).exists()):
            return []
        rows = {(row["number"], row["place"]): row for row in read_lines(self.path(phase))}
        return [from_line(row) for row in rows.values()]

    def put_back(self, phase: int, written: Sequence[Trajectory]) -> None:
        """An experience as a checkpoint has it, in place of whatever is there."""
        self.drop(phase)
        self.append(phase, written)

    def forget(self, phase: int, step: int) -> None:
        """Drops what weights after `step` wrote of this experience and of all later ones.

        A run that goes on from `step` has other weights then, or the same ones made again and not bitwise for certain:
        the number of a step alone does not say that they wrote it.
        """
        if not self.main:
            return
        for path in sorted(self.folder.glob("*.jsonl")):
            late = path.stem.isdecimal() and int(path.stem) >= phase
            if late and any(row["version"] > step for row in read_lines(path)):
                path.unlink()

    def drop(self, phase: int) -> None:
        if self.main:
            self.path(phase).unlink(missing_ok=True)

    def replayed(self, phase: int, world: World) -> list[Trajectory]:
        """What the run in `replay` recorded of this experience, whoever wrote it. RunError where it has nothing."""
        found: list[Trajectory] = []
        trouble = ""
        if self.main:
            assert self.replay is not None
            path = self.replay / "rollouts" / self.path(phase).name
            found = [from_line(row) for row in read_lines(path)]
            trouble = "" if found else f"rollout.replay: {path} is not there or empty; record as long a run first"
        if text := world.everyone(trouble)[0]:
            world.fail(text)
        return world.everyone(found)[0]

    def append(self, phase: int, chunk: Sequence[Trajectory]) -> None:
        """A finished chunk. A power cut may lose it, and it is written again; a killed process cannot."""
        if not self.main:
            return
        path = self.path(phase)
        try:
            inner_folder(self.folder)
            with open_end(path) as out:
                out.write("".join(json.dumps(line(t, phase)) + "\n" for t in chunk))
                out.flush()
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error}; make room, then go on with --resume") from error
        if not self.record:
            self.path(phase - KEPT).unlink(missing_ok=True)
