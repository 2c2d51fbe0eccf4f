"""A hub of alignment methods: preference data and demonstrations in, an aligned model out."""

import os
import sys

__version__ = "0.1.0"


def here_last() -> None:
    """Modules are looked for in the working folder, too, but after all that is installed: a `jinja2.py` of the user's
    must not stand in for the library. `python -m` has it first, an installed command not at all."""
    here = os.getcwd()
    sys.path[:] = [*(place for place in sys.path if place not in ("", here)), here]
