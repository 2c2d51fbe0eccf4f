"""The formats by name."""

from __future__ import annotations

from align.errors import UserError, did_you_mean
from align_eval.formats import alpaca_eval, arena_hard, inspect_ai, lm_eval, mt_bench, rows
from align_eval.formats.base import Format

MODULES = (alpaca_eval, arena_hard, inspect_ai, lm_eval, mt_bench, rows)
FORMATS: dict[str, Format] = {module.FORMAT.name: module.FORMAT for module in MODULES}


def format_of(name: str) -> Format:
    """UserError where there is none of this name."""
    if name not in FORMATS:
        known = "; ".join(f"{f.name} ({f.about})" for f in FORMATS.values())
        raise UserError(f"no such format: {name}; there are {known}.{did_you_mean(name, FORMATS)}")
    return FORMATS[name]
