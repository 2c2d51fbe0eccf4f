"""A hub of alignment methods: preference data and demonstrations in, an aligned model out.

    run = align.train("dpo", data=rows, model=folder, method={"beta": 0.2})
    run.metrics, run.completions, run.test, run.model(), run.report()
    align.Run("runs/dpo").compare("runs/ipo")
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from align.api.run import Run
    from align.api.train import train
    from align.errors import AlignError, RunError, Stopped, UserError

__version__ = "0.1.0"
__all__ = ["AlignError", "Run", "RunError", "Stopped", "UserError", "__version__", "train"]

PLACES = {  # imported when they are asked for: `import align` brings in nothing heavy
    "AlignError": "align.errors",
    "Run": "align.api.run",
    "RunError": "align.errors",
    "Stopped": "align.errors",
    "UserError": "align.errors",
    "train": "align.api.train",
}


def __getattr__(name: str) -> Any:
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(PLACES[name]), name)


def here_last() -> None:
    """Modules are looked for in the working folder, too, but after all that is installed: a `jinja2.py` of the user's
    must not stand in for the library. `python -m` has it first, an installed command not at all."""
    here = os.getcwd()
    sys.path[:] = [*(place for place in sys.path if place not in ("", here)), here]
