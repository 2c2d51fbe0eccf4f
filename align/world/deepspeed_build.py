"""DeepSpeed builds a small extension when it is first used, under a lock that a killed process leaves for ever: it
would wait for it without end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

STALE = 600.0  # seconds after which nobody is building any more; it takes one minute


def await_build(say: Callable[[str], object], pause: float = 1.0) -> None:
    """Waits for another process that is building; takes away, aloud, a lock that is older than any build."""
    told: set[Path] = set()
    while locks := [path for path in places().glob("*/deepspeed_*/lock") if age(path) is not None]:
        for path in locks:
            if (age(path) or 0.0) > STALE:
                path.unlink(missing_ok=True)  # another rank may have been first
                say(f"{path}: left by a process that was killed while it built DeepSpeed's extension; removed")
                continue
            if path not in told:
                say(f"waiting for another process that builds DeepSpeed's extension; if there is none, remove {path}")
                told.add(path)
        time.sleep(pause)


def places() -> Path:
    """Where torch builds extensions; below it a folder for each kind of Python."""
    return Path(os.environ.get("TORCH_EXTENSIONS_DIR", Path.home() / ".cache" / "torch_extensions"))


def age(path: Path) -> float | None:
    """Seconds; None where it is gone."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return None
