"""The kinds of cases, and how a case is run."""

from __future__ import annotations

import shutil
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

from fuzz.case import Case
from fuzz.feeding import recipes, rows
from fuzz.flipping import flips
from fuzz.killing import kills
from fuzz.stopping import full_disks, signals

KINDS: dict[str, Callable[[Case], None]] = {
    "kills": kills, "flips": flips, "signals": signals, "full_disks": full_disks, "recipes": recipes, "rows": rows,
}  # fmt: skip
ROUND = ("kills", "flips", "kills", "signals", "recipes", "kills", "full_disks", "rows")  # in which they come


def run_case(kind: str, number: int, seed: int, keep: Path | None = None) -> Case:
    """Its folder goes, unless it found a fault and `keep` says where such folders stay."""
    home = Path(tempfile.mkdtemp(prefix="align-fuzz-"))
    case = Case(kind, number, seed, home / "case")
    try:
        KINDS[kind](case)
    except Exception:
        case.fault(f"the fuzzer itself failed: {traceback.format_exc()}")
    if case.faults and keep is not None:
        shutil.copytree(case.folder, keep / f"{kind}-{number}", symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(home, ignore_errors=True)
    return case
