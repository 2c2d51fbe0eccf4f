"""A launch whose processes are forked from this one, which has everything imported: a start costs its run alone.

It is the launcher of accelerate and the agent of torch as they are, but for one thing: a rank is forked where it
would be executed. The launches of `launches.py` execute theirs.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from accelerate.commands.accelerate_cli import main as accelerate
from accelerate.state import AcceleratorState, PartialState
from children import end_with
from launches import TIMEOUT, driver, environment, launcher, left_by
from torch.distributed import run as agent

import align.run.train  # noqa: F401
from align.cli.main import main

with warnings.catch_warnings(action="ignore"):
    import deepspeed.runtime.engine  # noqa: F401  once, here, instead of in every rank

PAUSE = 0.01  # seconds between two looks at a child


class Child:
    """A process of ours; codes and names are those of `subprocess.Popen`."""

    def __init__(self, act: Callable[[], int | None], folder: Path, log: Path, env: dict[str, str]):
        self.returncode: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _be(act, folder, log, env)

    def poll(self) -> int | None:
        if self.returncode is None and (found := os.waitpid(self.pid, os.WNOHANG))[0]:
            self.returncode = os.waitstatus_to_exitcode(found[1])
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"had not ended after {timeout} s")
            time.sleep(PAUSE)
        return code

    def ranks(self) -> list[int]:
        """The processes that the launcher has started."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        found = sorted(int(child) for task in tasks for child in (task / "children").read_text().split())
        assert len(found) == 2, found
        return found


def start(mode: str, folder: Path, jobs: list[dict[str, Any]]) -> None:
    """The driver in two ranks, or in one process."""
    log, act = folder / "log.txt", program(*driver(folder, jobs))
    child = Child(act, folder, log, environment()) if mode == "none" else launched(mode, folder, log, act)
    assert child.wait(TIMEOUT) == 0, left_by(folder)


def launched(mode: str, folder: Path, log: Path, act: Callable[[], int | None]) -> Child:
    """`accelerate launch` of two ranks, sharded as `mode` says, of which each goes through `act`."""
    (_, _, _, *argv), env = launcher(mode)
    return Child(lambda: _launch(argv, act), folder, log, env)


def alone(folder: Path, log: Path, words: Sequence[str], env: dict[str, str]) -> Child:
    """`align WORDS`."""
    return Child(command(words), folder, log, env)


def command(words: Sequence[str]) -> Callable[[], int]:
    return lambda: main(list(words))


def program(path: str, *words: str) -> Callable[[], None]:
    """The `main` of a file, as Python finds it when it executes the file."""

    def act() -> None:
        sys.argv = [path, *words]
        sys.path.insert(0, str(Path(path).parent))
        for beside in Path(path).parent.glob("*.py"):
            sys.modules.pop(beside.stem, None)  # another file of that name
        importlib.import_module(Path(path).stem).main()

    return act


def _be(act: Callable[[], int | None], folder: Path, log: Path, env: dict[str, str]) -> NoReturn:
    def settled() -> int | None:
        os.setsid()
        for handle in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), handle)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)  # in the place of pytest's
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", closefd=False)
        warnings.resetwarnings()  # errors in tests
        warnings.simplefilter("ignore")
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        AcceleratorState._reset_state(reset_partial_state=True)
        PartialState._reset_state()
        return act()

    end_with(settled)


def _launch(argv: Sequence[str], act: Callable[[], int | None]) -> None:
    execute = agent.elastic_launch

    def fork(config: agent.LaunchConfig, entrypoint: object) -> Callable[..., object]:
        config.start_method = "fork"
        return lambda *_: execute(config, _rank)(act)

    agent.elastic_launch = fork  # type: ignore[assignment, misc]
    sys.argv = ["accelerate", *argv, "a program that is not executed"]
    accelerate()


def _rank(act: Callable[[], int | None]) -> None:
    if code := act():
        sys.exit(code)
