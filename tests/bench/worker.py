"""One side of one case in a process of its own, driven by lines on its standard input.

python -m tests.bench.worker SIDE CASE FOLDER OPTIONS    (OPTIONS: JSON)

ready     -> what the side chose
tokens    -> the token numbers of every sequence; columns -> their log-probabilities or scores
greedy    -> the likeliest completions; lengths -> those of sampled ones   (where the policy writes, as the next two)
learn     -> loss and gradient norm on given completions
parts     -> medians of the seconds that the parts of the steps took
step      -> seconds of one optimiser step
baseline  -> forgets the peak so far; peak -> MiB of memory above the baseline at its highest
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import Any

MARK = "@@ "
MEBI = 2**20


def main() -> None:
    side, name, folder, options = sys.argv[1:5]
    out = os.fdopen(os.dup(1), "w", buffering=1)  # whatever the libraries print goes elsewhere
    os.dup2(2, 1)
    import torch

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    from tests.bench.cases import find_case, rows_of

    case = find_case(name)
    made: Any = side_of(side, online=case.online)(case, rows_of(case), Path(folder), json.loads(options))
    memory = Memory(torch.cuda.is_available())

    def answer(value: Any) -> None:
        out.write(MARK + json.dumps(value) + "\n")

    def wait() -> bool:
        """Answers what can be answered without a step; True for a step, False for the end."""
        for line in sys.stdin:
            match line.strip():
                case "step":
                    return True
                case "tokens" | "columns" | "greedy" | "lengths" | "learn" as asked:
                    answer(getattr(made, asked)())
                case "parts":
                    answer(made.parts.medians())
                case "baseline":
                    answer(memory.forget())
                case "peak":
                    answer(memory.peak())
        return False

    answer(made.notes)
    made.train(wait, answer)


def side_of(side: str, *, online: bool) -> Any:
    """The class that makes a side; the other packages are imported only where they are wanted."""
    if side == "ours":
        from tests.bench.our_online import OurOnline
        from tests.bench.our_side import OurSide

        return OurOnline if online else OurSide
    from tests.bench.trl_online import TRLOnline
    from tests.bench.trl_side import TRLSide

    return TRLOnline if online else TRLSide


class Memory:
    """Peak memory above a baseline, in MiB: the process's own high-water mark on CPU, the allocator's on a GPU."""

    def __init__(self, cuda: bool):
        self.cuda = cuda
        self.base = 0.0

    def forget(self) -> float:
        """Gives freed memory back to the system, then starts a new high-water mark from what is held."""
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated() / MEBI
        else:
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            self.base = self._status("VmRSS")
        return self.base

    def peak(self) -> float:
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated() / MEBI - self.base
        return self._status("VmHWM") - self.base

    def _status(self, key: str) -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith(key)).split()[1]) / 1024


if __name__ == "__main__":
    main()
