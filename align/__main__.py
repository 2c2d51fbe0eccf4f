"""`python -m align` is the command `align`; launchers start it so: `accelerate launch ... -m align train RECIPE`."""

import sys

from align.cli import main


def leave() -> None:
    """Ends the threads by which processes talk: one that is left running at the end aborts a run that has succeeded."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


code = main()
if code == 0:
    leave()
sys.exit(code)
