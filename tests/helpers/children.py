"""How a forked child of a test ends: with its command's code, whatever it raised, and nothing of the test run's."""

from __future__ import annotations

import gc
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn


def end_with(act: Callable[[], int | None]) -> NoReturn:
    """The exit code is what `act` returns or exits with; 1, and a traceback, where it raises anything else."""
    # What earlier tests have left is never collected here: a store or a process group, when it goes, waits for its
    # threads, which are not in this process.
    gc.freeze()
    code = 1
    try:
        code = act() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
