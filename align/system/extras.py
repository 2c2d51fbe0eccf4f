"""Packages that a run may ask for and that are not installed with this one."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from align.errors import UserError


def has_bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


LACKING = "needs bitsandbytes, which is not installed here: pip install 'align-hub[quantised]'"


def bitsandbytes(key: str) -> Any:
    """The package, for what a recipe's `key` asks. UserError where it is not installed."""
    if not has_bitsandbytes():
        raise UserError(f"{key}: {LACKING}")
    return importlib.import_module("bitsandbytes")
