"""What the page of troubleshooting explains is what the code says."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pages/troubleshooting.md").read_text(encoding="utf-8")
WARNINGS = (ROOT / "docs/pages/report.md").read_text(encoding="utf-8").split("## Warnings")[1].split("## Metrics")[0]
MESSAGES = re.findall(r"^### (`+) ?(.+?)\1$", PAGE, re.MULTILINE)


@cache
def told() -> list[str]:
    """Every text of the code, what is filled in as a gap."""
    found: list[str] = []
    for path in [*ROOT.glob("align/**/*.py"), *ROOT.glob("eval/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(p.value) if isinstance(p, ast.Constant) else "\0" for p in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


@pytest.mark.parametrize("message", [m for _, m in MESSAGES])
def test_a_message_that_is_explained_exists(message: str) -> None:
    parts = [re.escape(part.strip()) for part in message.split("...") if part.strip()]
    pattern = re.compile(r"[\s\S]*".join(parts))
    assert any(pattern.search(text) for text in told())


@pytest.mark.parametrize("warning", re.findall(r"^\| `([^`]+)` \|", WARNINGS, re.MULTILINE))
def test_a_warning_that_is_explained_exists(warning: str) -> None:
    assert any(warning in text for text in told())


def test_many_are_explained() -> None:
    assert len(MESSAGES) > 25
    assert PAGE.count("\n### ") == len(MESSAGES)
