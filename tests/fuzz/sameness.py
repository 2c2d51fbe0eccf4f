"""What two runs of a recipe must have in common, whatever happened to one of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from small_runs import TIMES

BITWISE = ("final", "critic")
TEXTS = ("completions.jsonl", "outcome.json", "test.json", "test_before.json", "data.json", "identity.json")


def differences(one: Path, other: Path) -> list[str]:
    """Of an undisturbed run and another one; empty where no number differs."""
    found = [f"{name}: differs" for name in TEXTS if content(one / name, one) != content(other / name, other)]
    found += weights_differ(one, other)
    mine, theirs = lasting(one / "metrics.jsonl"), lasting(other / "metrics.jsonl")
    if [row["step"] for row in theirs] != [row["step"] for row in mine]:
        found.append(f"metrics.jsonl: has the steps {[row['step'] for row in theirs]}")
    for old, new in zip(mine, theirs, strict=False):
        keys = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
        if keys:
            found.append(f"metrics.jsonl: step {old['step']}: {', '.join(keys)} differ")
            break
    return found + leftovers(other)


def weights_differ(one: Path, other: Path) -> list[str]:
    """Which files of final/ and critic/ are not the same."""
    found: list[str] = []
    for name in BITWISE:
        mine, theirs = ({p.name: p.read_bytes() for p in (f / name).glob("*") if p.is_file()} for f in (one, other))
        found += [f"{name}/{n}: differs" for n in sorted({*mine, *theirs}) if mine.get(n) != theirs.get(n)]
    return found


def content(path: Path, home: Path) -> str:
    """Without the place of the run, the name that it gave itself, and the sum over both."""
    text = path.read_text() if path.exists() else "none"
    text = re.sub(r'"(output_dir|run|sum)": "[^"]*"', "", text) if path.name == "identity.json" else text
    return text.replace(str(home), "RUN").replace(f'"{home.name}"', "RUN")


def lasting(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def leftovers(out: Path) -> list[str]:
    """Half-made things of lives that were killed, beside what a run that ended has."""
    left = [p.relative_to(out) for p in out.rglob("*") if p.name.startswith(".") or p.name.endswith(".tmp")]
    return [f"left behind: {path}" for path in left if path.name != ".lock"]
