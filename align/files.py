"""Writing that survives a kill and a power cut, and sums of what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from typing import Any


def replace_file(path: Path, text: str) -> None:
    """Writes a whole file so that a kill leaves the old one or the new one."""
    aside = path.with_name(f".{path.name}.tmp")
    with open(aside, "w", encoding="utf-8", errors="backslashreplace") as out:
        out.write(text)
        out.flush()
        flush(out.fileno())
    os.replace(aside, path)
    flush_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    replace_file(path, json.dumps(value, indent=1) + "\n")


def flush_folder(path: Path) -> None:
    """Makes names and renames inside `path` durable; nothing where folders cannot be opened (Windows)."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            flush(handle)
        finally:
            os.close(handle)


def flush(handle: int) -> None:
    """fsync, where the file system has it."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems cannot
            raise


def sha256_of_flushed(path: Path) -> str:
    """The sum of a file that another writer has closed, after flushing it to the disk."""
    with open(path, "rb+") as file:
        flush(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
