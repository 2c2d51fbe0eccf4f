"""What is logged, by name: the table that the report, the terminal and keep-best go by."""

from __future__ import annotations

from align.methods.metrics import OF_ONLINE, OF_PAIRS, TABLE, About
from docs.generate.tables import cell


def metrics() -> str:
    rows = "".join(f"| `{name}` | {_meaning(name, about)} | {_better(about)} |\n" for name, about in TABLE.items())
    return f"| metric | what it is | better when |\n| --- | --- | --- |\n{rows}"


def _meaning(name: str, about: About) -> str:
    told = OF_ONLINE.get(name) or OF_PAIRS.get(name) or about.title or name.replace("_", " ")
    return cell(told + (", a share" if about.share and "share" not in told.lower() else ""))


def _better(about: About) -> str:
    return about.better or "neither by itself"
