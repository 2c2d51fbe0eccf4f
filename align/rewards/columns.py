"""Which columns of the data a reward function is given, and whether they are there."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Any

from align.errors import did_you_mean

ALWAYS = ("prompts", "completions", "completion_ids")  # what every function is given beside columns
WRITTEN_BY = "written_by"  # column that tells those that compare who wrote what, where the policy did not write all
LOOKED_AT = 1000  # rows, where the first do not have what is wanted

Finding = Callable[[Collection[str], str], str]  # columns, whose they are -> what is wrong, empty where nothing is


def arguments(function: Any) -> tuple[list[str], list[str] | None]:
    """The columns that a function asks for, and all that it takes; None: any."""
    try:
        found = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # no function of Python's
        return [], None
    named = [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name not in ALWAYS]
    asked = [p.name for p in named if p.default is p.empty]
    return asked, None if any(p.kind is p.VAR_KEYWORD for p in found) else [p.name for p in named]


def misfit(function: Any, columns: Collection[str], whose: str) -> str:
    """Why a function cannot judge rows with these columns, and the cure; empty where it can."""
    columns = [c for c in columns if c != "prompt"]
    if WRITTEN_BY in columns and getattr(function, "compares", ""):
        return f"{whose} has a column {WRITTEN_BY}, by which it is told who wrote what; give it another name there"
    there = f"{whose} has {', '.join(columns) or 'none beside prompt'}"
    if clash := [c for c in columns if c in ALWAYS]:
        return f"{whose} has a column {clash[0]}, as an argument of every reward is called; give it another name there"
    reads: dict[str, str] = getattr(function, "reads", {})
    for setting, column in reads.items():
        if column not in columns:
            cure = f"name another with settings: {{{setting}: ...}}"
            return f"needs the column {column}; {there}; {cure}.{did_you_mean(column, columns)}"
    if lost := [name for name in arguments(function)[0] if name not in columns]:
        cure = f"where only some rows have it, write {lost[0]}=None"
        return f"its argument {lost[0]} is no column; {there}; {cure}.{did_you_mean(lost[0], columns)}"
    return misfit(function.asks, columns, whose) if getattr(function, "asks", None) else ""


def misfits(findings: Mapping[str, Finding], rows: Iterable[Collection[str]], whose: str) -> dict[str, str]:
    """What is wrong, by name, as far as the first rows tell: a column is there where one of them has it."""
    columns: dict[str, None] = {}
    wrong: dict[str, str] = {}
    for row in islice(rows, LOOKED_AT):
        columns |= dict.fromkeys(row)
        wrong = {name: text for name, finding in findings.items() if (text := finding(list(columns), whose))}
        if not wrong:
            break
    return wrong
