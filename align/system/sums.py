"""Sums of what was written, by which damage is found when it is read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SUM = "sum"  # the key of a sealed object's own sum


def sha256_of(path: Path) -> str:
    """Of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sums_of(paths: Sequence[Path]) -> list[str]:
    """`sha256_of` each, several at a time."""
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(sha256_of, paths))


def digest_of(value: Any) -> str:
    """sha256 of plain JSON values; the order of keys does not count."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """A JSON object with the sum of all else that is in it."""
    return {**content, SUM: digest_of(content)}


def unsealed(found: Any) -> dict[str, Any]:
    """What was given to `sealed`, after a trip through a file. ValueError where it is not that."""
    if not isinstance(found, dict) or SUM not in found:
        raise ValueError("it has no sum of its content")
    content = {key: value for key, value in found.items() if key != SUM}
    if digest_of(content) != found[SUM]:
        raise ValueError("its content is not what was written: their sums differ")
    return content
