"""All writing into run folders, caches, reports and exports: it survives a kill and a power cut, and follows no link.

What stands in such a folder may have been put there by somebody else: a link under a name that is about to be written
would lead the writing to any file of this user's. So a new file is made where nothing is, whatever had its name goes
first, and an old one is only opened where it is a file itself.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

NO_LINK = getattr(os, "O_NOFOLLOW", 0)
AT_ONCE = getattr(os, "O_NONBLOCK", 0)  # a pipe is found out, not waited for
STALE = 24 * 3600.0  # seconds
TRIES = 100  # where several processes make the same file

# ---- whole files ----------------------------------------------------------------------------------------------------


def aside_of(path: Path) -> Path:
    """The name under which what will stand at `path` is made: always the same, so that a kill leaves one at most."""
    return path.with_name(f".{path.name}.tmp")


def replace_file(path: Path, text: str) -> None:
    """Writes a whole file so that a kill leaves the old one or the new one."""
    with replacing(path) as out:
        out.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    replace_file(path, json.dumps(value, indent=1) + "\n")


def copy_file(source: Path, path: Path) -> None:
    """Its content, under another name."""
    with open(source, "rb") as before, replacing(path) as out:
        shutil.copyfileobj(before, out)


@contextmanager
def replacing(path: Path, aside: Path | None = None) -> Iterator[Any]:
    """A new binary file that takes the place of `path` when the block has succeeded, and is gone when it has failed.

    Several processes may do so at once: what the last one writes stays. Who needs its own at once names an `aside` of
    its own.
    """
    aside = aside or aside_of(path)
    out = create(aside)
    about = os.fstat(out.fileno())
    try:
        with out:
            yield out
            out.flush()
            flush(out.fileno())
        if _is(aside, about):
            with suppress(FileNotFoundError):  # taken away at this very moment
                os.replace(aside, path)
    except BaseException:
        if _is(aside, about):
            with suppress(OSError):
                aside.unlink()
        raise
    flush_folder(path.parent)


def _is(path: Path, about: os.stat_result) -> bool:
    """Whether another process has put something of its own there meanwhile."""
    with suppress(OSError):
        return os.path.samestat(os.lstat(path), about)
    return False


# ---- opening --------------------------------------------------------------------------------------------------------


def create(path: Path) -> Any:
    """A new file, open for writing bytes, in the place of whatever had its name."""
    for _ in range(TRIES):
        remove(path)
        with suppress(FileExistsError):
            return open(path, "xb", opener=lambda name, flags: os.open(name, flags | NO_LINK, 0o666))
    raise OSError(errno.EEXIST, "is made anew by another process again and again", str(path))


def open_end(path: Path) -> Any:
    """A file to which text is added, made where there is none. OSError where something else is under its name."""
    # half a character pair becomes a JSON escape
    return open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_plain)


def open_handle(path: Path, flags: int) -> int:
    """Like `os.open`. OSError for what is no file itself."""
    return _plain(str(path), flags)


def cut(path: Path, size: int) -> None:
    """Leaves the first bytes of a file."""
    handle = open_handle(path, os.O_WRONLY)
    try:
        os.ftruncate(handle, size)
    finally:
        os.close(handle)


def _plain(name: str, flags: int) -> int:
    try:
        handle = os.open(name, flags | NO_LINK | AT_ONCE, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EMLINK):
            raise OSError(error.errno, "is a link or no plain file, and is not written through", name) from None
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "is no plain file, and is not written through", name)
    return handle


# ---- folders --------------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    """Whatever is under this name: a file, a link (not what it leads to), a folder with all that is in it."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def new_folder(path: Path) -> Path:
    """An empty folder in the place of whatever had its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(path)
    path.mkdir()
    return path


def inner_folder(path: Path) -> Path:
    """A folder, made where there is none. OSError where its name is a link."""
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.ELOOP, "is a link, and is not written through", str(path))
    return path


def copy_folder(source: Path, path: Path) -> None:
    """All its files, over those of the same names."""
    for file in sorted(p for p in source.rglob("*") if p.is_file()):
        place = path / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        copy_file(file, place)


def link(path: Path, target: Path) -> None:
    """In a folder of this process's own: elsewhere links are not written through."""
    path.symlink_to(target.resolve())


def put_file(aside: Path, path: Path) -> None:
    """A finished file in the place of whatever had its name; several processes may do so with the same content."""
    os.replace(aside, path)


def put_folder(aside: Path, path: Path) -> None:
    """A folder in the place of whatever had its name."""
    remove(path)
    aside.rename(path)


def sweep(folder: Path, pattern: str) -> None:
    """Takes away what writers that were killed have left; one that is under way writes more often than daily."""
    for left in folder.glob(pattern):
        with suppress(OSError):  # it ends at this moment, or is another user's
            if time.time() - max(p.lstat().st_mtime for p in (left, *left.rglob("*"))) > STALE:
                remove(left)


def odd_in(folder: Path, apart: Iterable[str] = ()) -> list[str]:
    """Names below a folder that are neither files nor folders: links, pipes. Into `apart`, at its top, nobody looks."""
    found: list[str] = []
    for place, folders, files in os.walk(folder):
        inside = (Path(place, name) for name in (*folders, *files))
        found += [path.relative_to(folder).as_posix() for path in inside if not _is_plain(path)]
        if Path(place) == folder:
            folders[:] = [name for name in folders if name not in apart]
    return sorted(found)


def _is_plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def stranger(folder: Path) -> int | None:
    """The number of the user who owns a folder, where that is not who owns what this process makes in it.

    On a network disk that may be another than the user of this process. None elsewhere, and where there are no owners.
    """
    owner = folder.stat().st_uid
    if not hasattr(os, "geteuid") or owner == os.geteuid():
        return None
    return None if _owner_of_new(folder) == owner else owner


def _owner_of_new(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as probe:
        return os.fstat(probe.fileno()).st_uid


# ---- to the disk ----------------------------------------------------------------------------------------------------


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
    with open(path, "rb+", opener=_plain) as file:
        flush(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest()
