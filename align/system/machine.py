"""What the machine under a run may lack: memory, room on the disk, open files, a place to write.

Libraries say it in their own words and in other languages' errors; it is found along the chain of causes.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from align.errors import AlignError, RunError, UserError

FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
TORCH_FAILED = "unexpected pos|file write failed"  # its writer says no more
FILES = (errno.EMFILE, errno.ENFILE)
FEW_FILES = re.compile("too many open files", re.IGNORECASE)
NO_MEMORY = re.compile(
    "not enough memory|can(no|')t allocate memory|out of memory|defaultcpuallocator|bad_alloc", re.IGNORECASE
)
NO_THREADS = re.compile("can't start new thread|resource temporarily unavailable", re.IGNORECASE)


def is_full(error: BaseException | None) -> bool:
    """Whether a write failed for want of space."""
    return any(
        number in FULL or (isinstance(e, RuntimeError) and re.search(TORCH_FAILED, str(e)))
        for e, number in _chain(error)
    )


def is_out_of_memory(error: BaseException | None) -> bool:
    return any(isinstance(e, MemoryError) or n == errno.ENOMEM or _says(e, NO_MEMORY) for e, n in _chain(error))


def is_out_of_files(error: BaseException | None) -> bool:
    return any(number in FILES or _says(e, FEW_FILES) for e, number in _chain(error))


def is_out_of_threads(error: BaseException | None) -> bool:
    return any(_says(e, NO_THREADS) for e, _ in _chain(error))


def lacks(error: BaseException | None) -> bool:
    """Whether what failed is this machine's want, whoever says it, and no fault of what was read or written."""
    return any(of(error) for of in (is_full, is_out_of_memory, is_out_of_files, is_out_of_threads))


def _says(error: BaseException, words: re.Pattern[str]) -> bool:
    return isinstance(error, RuntimeError | OSError) and bool(words.search(str(error)))


def _chain(error: BaseException | None) -> Iterator[tuple[BaseException, int]]:
    """An error and its causes, each with its errno, which Rust hides in a text; 0 where there is none."""
    while error is not None:
        hidden = re.search(r"os error (\d+)", str(error))
        yield error, (error.errno or 0) if isinstance(error, OSError) else int(hidden[1]) if hidden else 0
        error = error.__cause__ or error.__context__


def told(error: BaseException, *, trains: bool = True, of_a_recipe: bool = True) -> AlignError | None:
    """What to tell of an error that reached the command: the machine's want and its cure, or the file that failed.

    A command that does not train has no checkpoints to go on from, and one without a recipe no keys that save memory.
    """
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UserError(f"{str(error.filename)[:60]}...: {error.strerror}")
    if is_out_of_memory(error):
        return _out_of_memory(error, of_a_recipe)
    text = _first_line(error)
    if is_full(error):
        return RunError(f"no room on the disk: {text}. {_cure('make room', trains)}")
    if is_out_of_files(error):
        return RunError(
            f"too many open files: {text}. Allow more with `ulimit -n 65536` before the command; fewer reward workers "
            f"and sources open fewer. {_cure('do that', trains)}"
        )
    if is_out_of_threads(error):
        return RunError(f"no more threads or processes: {text}. Raise `ulimit -u`, or set OMP_NUM_THREADS=1")
    if isinstance(error, OSError):
        return RunError(f"{text}. ALIGN_DEBUG=1 shows where. {_cure('mend it', trains)}")
    return None


def spare_deepspeed_the_search() -> None:
    """On a machine without a GPU. Accelerate imports DeepSpeed where it is installed, used or not, and that looks for
    one aloud."""
    os.environ.setdefault("DS_ACCELERATOR", "cpu")


def unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, which need not be there yet; empty where it can."""
    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return ""
    except OSError as error:
        return f"{error.strerror} ({place})"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _cure(what: str, trains: bool) -> str:
    return f"Checkpoints stay: {what}, then --resume" if trains else f"{what.capitalize()}, then give the command again"


def _out_of_memory(error: BaseException, of_a_recipe: bool) -> RunError:
    """`torch.OutOfMemoryError` is a RuntimeError, as is what the CPU's allocator raises."""
    reason = str(error).splitlines()[0] if str(error) else "out of memory"
    if not of_a_recipe:
        return RunError(f"out of memory: {reason}. Fewer or shorter texts at a time need less, as does a smaller model")
    return RunError(
        f"out of memory: {reason}\nIn the order of what it costs: lower training.max_tokens (the same numbers, smaller "
        "micro-batches); training.head_chunk: 512 or less (large vocabularies); training.gradient_checkpointing: true "
        "(a third slower); training.layout: padded where packed or shared masks are large; model.reference: cached; "
        "model.lora; more ranks with launch/accelerate/zero3.yaml. `align check` shows what each part takes. "
        "Checkpoints stay: go on with --resume --allow-changes KEY for what was changed."
    )
