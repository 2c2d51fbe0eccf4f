"""The mistakes a user can make, each told with the place, the finding and the cure.

Every error here ends a command with one readable message and no traceback: `UserError` with exit code 2 (found before
training), `RunError` with 1 (a run that failed), `Incomplete` with 4 (some of it could not be had, the rest is kept),
`Lost` with 69 (another process is gone), `Stopped` with 75 (asked to stop, saved, can be resumed). Our own invariants
are guarded by `assert` instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path


def debugging() -> bool:
    """Whether tracebacks are asked for."""
    return os.environ.get("ALIGN_DEBUG", "") not in ("", "0")


class AlignError(Exception):
    """Base of all errors that are meant for the user's eyes."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows of it: the message alone, as a command does, and all with ALIGN_DEBUG=1."""
        if debugging():
            raise NotImplementedError  # IPython then does as with any other error
        return [f"{type(self).__name__}: {self}"]


class UserError(AlignError, ValueError):
    """Something in the recipe, the data, the model folder or the command line is wrong; nothing has been trained."""

    exit_code = 2


class RunError(AlignError, RuntimeError):
    """A run failed while it was training; what was saved before stays."""

    exit_code = 1


class Incomplete(AlignError):
    """Some of what was asked for could not be had. What came is kept, and the same command asks for the rest alone."""

    exit_code = 4


class Elsewhere(RunError):
    """Another process found what is wrong and tells it; this one ends without a word, with that one's exit code."""

    def __init__(self, text: str, exit_code: int = 1):
        super().__init__(text)
        self.exit_code = exit_code


class Lost(RunError):
    """Another process of the run is gone or does not get on, by no fault of this one; the run can be resumed."""

    exit_code = 69


class Stopped(AlignError):
    """The run was asked to stop, finished its step and saved its state."""

    exit_code = 75


class Mistakes(UserError):
    """Several mistakes, reported in one go."""

    def __init__(self, messages: Iterable[str]):
        self.messages = list(messages)
        super().__init__("\n".join(self.messages))


class Findings:
    """Mistakes of several looks, told together: `with found:` around each, then `found.tell()`."""

    def __init__(self, messages: Iterable[str] = ()):
        self.messages = list(messages)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, UserError):
            self.messages += error.messages if isinstance(error, Mistakes) else [str(error)]
        return isinstance(error, UserError)

    def tell(self) -> None:
        """Mistakes with what was found, each once, if anything was."""
        if self.messages:
            raise Mistakes(dict.fromkeys(self.messages))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean X?` for the nearest of `known`, or an empty string when nothing is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""


def near_path(path: Path) -> str:
    """`. Did you mean X?` for the nearest name of what lies beside a path that is not there; else an empty string."""
    try:
        near = did_you_mean(path.name, [beside.name for beside in path.parent.iterdir()])
    except OSError:
        return ""
    return f".{near}" if near else ""
