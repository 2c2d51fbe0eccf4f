"""`python -m align` is the command `align`; launchers start it so: `accelerate launch ... -m align train RECIPE`."""

# ruff: noqa: E402
from align import here_last

here_last()  # before anything else is imported

import atexit
import os
import sys
from typing import NoReturn

from align.cli.main import main
from align.system.terminal import guard_complaints, outlast_readers


def leave(code: int) -> NoReturn:
    """Ends this process. One of several does not take its interpreter apart.

    The threads by which processes talk may still hold a tensor, and outlive `destroy_process_group` where anything
    refers to the group. One that lets go of its tensor while the interpreter is taken apart aborts the process: a run
    that has succeeded would end with the code of one that has crashed.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        sys.exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run() -> NoReturn:
    """The command, as a process."""
    outlast_readers()
    guard_complaints()
    leave(main())


if __name__ == "__main__":
    run()
