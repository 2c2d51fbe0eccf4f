"""A job's log, which has all its attempts one after the other, taken apart."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from align.cluster.submission import FOLDER

HEAD = re.compile(r"==== attempt (\d+) of job ")  # as job.sh writes it


@dataclass(frozen=True)
class Part:
    """One attempt."""

    number: int  # 0: what was said before the first
    lines: list[str]


def logs_of(run: Path, job: str) -> list[Path]:
    """One, or one for each task of an array."""
    folder = run / FOLDER
    return [p for p in (folder / f"slurm-{job}.log", *sorted(folder.glob(f"slurm-{job}_*.log"))) if p.is_file()]


def parts_of(log: Path) -> list[Part]:
    """Its attempts in order; one at least."""
    parts = [Part(0, [])]
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        if found := HEAD.match(line):
            parts.append(Part(int(found[1]), []))
        parts[-1].lines.append(line)
    return parts[1:] if len(parts) > 1 and not parts[0].lines else parts
