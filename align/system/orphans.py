"""Processes that are asked to end when the one that has started them is gone, however it went.

By SIGTERM, through prctl's PR_SET_PDEATHSIG (1), which outlives exec; Linux alone has it, elsewhere they go on.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

CHILD = (
    "import ctypes, os, signal, sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


def bound(command: Sequence[str]) -> list[str]:
    """The command, as one that ends with the thread that starts it."""
    return [sys.executable, "-P", "-c", CHILD, *command]
