"""What the fields of a dataclass mean, off the comments beside them: the one place where that is written."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from functools import cache
from typing import Any


@cache
def meanings(cls: type[Any]) -> dict[str, str]:
    """Field -> its comment, one behind the field with the lines after it, or else the lines above; empty: none."""
    source = textwrap.dedent(inspect.getsource(cls))
    (tree,) = (node for node in ast.parse(source).body if isinstance(node, ast.ClassDef))
    behind, alone = _comments(source)
    found: dict[str, str] = {}
    before = ""
    for node in tree.body:
        last = node.end_lineno or node.lineno
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            beside = " ".join(behind[n] for n in range(node.lineno, last + 1) if n in behind)
            above = " ".join(_above(alone, node.lineno))
            found[node.target.id] = beside or above
            if beside and above and before:  # they stand between two that have their own: the first goes on
                found[before] = f"{found[before]} {above}".strip()
            before = node.target.id
    return found


def _comments(source: str) -> tuple[dict[int, str], dict[int, str]]:
    """Line -> its comment: behind code, and alone. Those that begin a part of a class (`# ----`) are left out."""
    behind, alone = dict[int, str](), dict[int, str]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("# ----"):
            kind = behind if token.line[: token.start[1]].strip() else alone
            kind[token.start[0]] = token.string.lstrip("# ").rstrip()
    return behind, alone


def _above(alone: dict[int, str], line: int) -> list[str]:
    """The comments right above a line, from the top."""
    found: list[str] = []
    while (line := line - 1) in alone:
        found.insert(0, alone[line])
    return found
