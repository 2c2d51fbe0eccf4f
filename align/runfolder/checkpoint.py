"""Checkpoints: a folder is whole and verified, or it does not exist.

`checkpoints/step-000120/` is written aside as `.step-000120.tmp`, gets a `manifest.json` with size and sha256 of every
file, is flushed to the disk and renamed. So a kill at any instant leaves the old state or the new one. Names that
begin with a dot are leftovers of a kill; `tidy` puts them right. Only the main process calls `begin`, `commit`, `tidy`,
`latest_good`, `rewind` and `prune`; the others write into `temporary(root, step)` between the main one's calls.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import align
from align.errors import RunError, UserError
from align.system.files import flush_folder, inner_folder, new_folder, remove, sha256_of_flushed, write_json
from align.system.machine import is_full
from align.system.sums import SUM, sealed, sha256_of, unsealed

FORMAT = 2  # of what is written; raise it when an older align could not read it, or this one not the older
MANIFEST = "manifest.json"
Say = Callable[[str], None]


# ---- names ----------------------------------------------------------------------------------------------------------


def folder(root: Path, step: int) -> Path:
    return root / f"step-{step:06d}"


def temporary(root: Path, step: int) -> Path:
    """Where all processes write their files until `commit`."""
    return root / f".step-{step:06d}.tmp"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name, -1 for any other name."""
    found = re.fullmatch(r"step-(\d{6,})", path.name)
    return int(found[1]) if found else -1


def checkpoints(root: Path) -> list[Path]:
    """All finished checkpoints, good or damaged, oldest first."""
    found = [p for p in root.iterdir() if step_of(p) >= 0] if root.is_dir() else []
    return sorted(found, key=step_of)


# ---- writing --------------------------------------------------------------------------------------------------------


def begin(root: Path, step: int) -> Path:
    """An empty `temporary(root, step)`."""
    tidy(root)
    tmp = temporary(root, step)
    try:
        inner_folder(root)
        new_folder(tmp)
    except OSError as error:
        if is_full(error):
            raise _full(tmp, 0, error) from error
        raise RunError(f"{root}: cannot save step {step} here: {error}") from error
    return tmp


@contextlib.contextmanager
def guarded(tmp: Path) -> Iterator[None]:
    """Around all writing into `tmp`: removes it on any error and turns a full disk into a RunError."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, Exception) and not tmp.exists():
            raise RunError(f"{tmp}: is gone; another process gave up saving, its message says why") from error
        written = _size(tmp)
        shutil.rmtree(tmp, ignore_errors=True)
        if isinstance(error, Exception) and is_full(error):
            raise _full(tmp, written, error) from error
        raise


def commit(tmp: Path, step: int) -> Path:
    """Manifest, flush, rename: `tmp` becomes the checkpoint of `step`, replacing one of that step."""
    names = _files(tmp)
    with ThreadPoolExecutor(4) as pool:
        sums = list(pool.map(lambda n: sha256_of_flushed(tmp / n), names))
    files = {n: {"size": (tmp / n).stat().st_size, "sha256": s} for n, s in zip(names, sums, strict=True)}
    manifest = sealed({"format": FORMAT, "align": align.__version__, "step": step, "files": files})
    write_json(tmp / MANIFEST, manifest)
    for inside in (*(p for p in tmp.rglob("*") if p.is_dir()), tmp):
        flush_folder(inside)
    final, old = folder(tmp.parent, step), tmp.with_suffix(".old")
    if final.exists():
        final.rename(old)  # a folder that is not empty cannot be replaced by one rename; tidy() knows this state
    tmp.rename(final)
    flush_folder(final.parent)
    with contextlib.suppress(OSError):
        remove(old)
    return final


# ---- reading --------------------------------------------------------------------------------------------------------


def is_checkpoint(path: Path) -> bool:
    return step_of(path) >= 0 and (path / MANIFEST).exists()


def verify(path: Path, *, sums: bool = True) -> list[str]:
    """What is wrong with a checkpoint, file by file; empty when all of it is as it was written. Without `sums` the
    content is not read: names and sizes alone are compared.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        newest, step, files = int(manifest["format"]), int(manifest["step"]), dict(manifest["files"])
        if SUM in manifest:  # what an older align wrote has none
            unsealed(manifest)
        expected = {str(n): (int(f["size"]), str(f["sha256"])) for n, f in files.items()}
    except FileNotFoundError:
        return [f"{MANIFEST}: missing; not a finished checkpoint of align"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: cannot be read ({type(error).__name__}: {error})"]
    if newest != FORMAT:
        age = "a newer" if newest > FORMAT else "an older"
        return [f"{MANIFEST}: format {newest} is from {age} align ({manifest.get('align')}); this one reads {FORMAT}"]
    found = set(_files(path)) - {MANIFEST}
    problems = [f"{n}: missing" for n in sorted(expected.keys() - found)]
    problems += [f"{n}: not in the manifest" for n in sorted(found - expected.keys())]
    if step_of(path) not in (step, -1):
        problems.append(f"{MANIFEST}: is of step {step}")
    names = sorted(expected.keys() & found)
    with ThreadPoolExecutor(4) as pool:
        problems += filter(None, pool.map(lambda n: _compare(path / n, n, *expected[n], sums=sums), names))
    return problems


def _compare(path: Path, name: str, size: int, sha256: str, *, sums: bool) -> str:
    if path.is_symlink():
        return f"{name}: is a link"
    if path.stat().st_size != size:
        return f"{name}: has {path.stat().st_size:,} bytes, was written with {size:,}"
    return "" if not sums or sha256_of(path) == sha256 else f"{name}: content is not what was written (sha256 differs)"


def require_good(path: Path) -> Path:
    """`path`, or a UserError that names every finding; for a checkpoint that the user named."""
    if not path.is_dir():
        raise UserError(f"{path}: no such checkpoint")
    if problems := verify(path):
        raise UserError(f"{path}: cannot be resumed from: {'; '.join(problems)}. {_cure(problems)}")
    return path


def latest_good(root: Path, say: Say) -> Path | None:
    """The newest whole checkpoint; None where there is none at all. Damaged ones are passed over, aloud.

    Raises UserError when the newest is from another align (going on from an older one would throw work away), and
    when all are damaged.
    """
    tidy(root)
    findings: list[str] = []
    for path in reversed(checkpoints(root)):
        problems = verify(path)
        if not problems:
            return path
        if _other_align(problems):
            raise UserError(f"{path}: {problems[0]}. {_cure(problems)}")
        findings.append(f"{path}: damaged: {'; '.join(problems)}")
        say(f"{findings[-1]}. Trying the one before it")
    if findings:
        cure = f"Remove {root} to begin anew, or resume from another checkpoint by its path"
        raise UserError("\n".join([f"{root}: no checkpoint is whole. {cure}", *findings]))
    return None


def _other_align(problems: list[str]) -> bool:
    return any("is from a" in p and "align" in p for p in problems)


def _cure(problems: list[str]) -> str:
    if _other_align(problems):
        return "Go on with the align that wrote it, or resume from another checkpoint by its path"
    return "Resume from another checkpoint, or with --resume auto from the newest whole one"


# ---- keeping --------------------------------------------------------------------------------------------------------


def tidy(root: Path) -> None:
    """Puts right what a kill left: half-written and half-removed folders go, an interrupted replacement is undone."""
    if not root.is_dir():
        return
    for old in root.glob(".step-*.old"):
        final = root / old.stem.removeprefix(".")
        if not final.exists():
            old.rename(final)
    for left in root.glob(".step-*"):
        with contextlib.suppress(OSError):
            remove(left)


def rewind(root: Path, step: int) -> list[Path]:
    """Sets aside the checkpoints after `step`, from which the run goes on; call it before metrics are truncated.

    They are of another past: resuming from one later would leave a gap in the metrics.
    """
    moved = []
    for path in checkpoints(root):
        if step_of(path) > step:
            aside = path.with_name(f"abandoned-{path.name}")
            remove(aside)
            moved.append(path.rename(aside))
    return moved


def prune(root: Path, keep: int, best: int | None = None) -> list[Path]:
    """Removes all but the `keep` newest and the one of step `best`; also what `rewind` set aside, once passed."""
    assert keep >= 1, "the checkpoint just written must stay"
    steps = [step_of(p) for p in checkpoints(root)]
    gone = [folder(root, s) for s in steps[:-keep] if s != best]
    for path in root.glob("abandoned-step-*"):
        if steps and step_of(path.with_name(path.name.removeprefix("abandoned-"))) <= steps[-1]:
            gone.append(path)
    for path in gone:  # renamed first: a kill in the middle must not leave something that looks damaged
        shutil.rmtree(path.rename(root / f".step-{path.name.rsplit('-', 1)[1]}.gone"), ignore_errors=True)
    return gone


# ---- files ----------------------------------------------------------------------------------------------------------


def _files(path: Path) -> list[str]:
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_symlink() or not p.is_dir())


def _size(path: Path) -> int:
    with contextlib.suppress(OSError):
        return sum((path / n).lstat().st_size for n in _files(path))
    return 0


def _full(tmp: Path, written: int, error: BaseException) -> RunError:
    root = tmp.parent
    whole = [p for p in checkpoints(root) if not verify(p)]
    needed = max([written, *(_size(p) for p in whole)])
    free = shutil.disk_usage(root if root.is_dir() else root.parent).free
    before = f"the previous checkpoint {whole[-1].name} is intact" if whole else "there was no checkpoint before it"
    return RunError(
        f"{root}: no room to save {tmp.stem.removeprefix('.')} ({error}): "
        f"it needs more than {needed:,} bytes, {free:,} are free without it; "
        f"{before}. Make room (training.save_total_limit keeps fewer), then go on with --resume"
    )
