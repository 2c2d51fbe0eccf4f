"""`make bench`: python -m tests.bench [--repetitions N] [--out FOLDER] [CASE ...]

Each case is written when it ends; cases that are named take the places of their old rows and leave the others.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.bench.cases import CASES, REPOSITORY, find_case
from tests.bench.render import keep, missed
from tests.bench.run import run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Step time and memory against TRL.")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(c.name for c in CASES))
    parser.add_argument("--repetitions", type=int, default=7, help="timed steps of each side (default 7)")
    parser.add_argument("--out", type=Path, default=REPOSITORY, help="where BENCHMARKS.md and benchmarks.json go")
    given = parser.parse_args()
    command = "make bench" if len(sys.argv) == 1 else f"python -m tests.bench {' '.join(sys.argv[1:])}"
    for outcome in run([find_case(n) for n in given.cases] or list(CASES), given.repetitions):
        for promise in missed(keep(outcome, command, given.out)):
            if f"`{outcome.case.name}`" in promise:
                print(f"not reached: {promise}", flush=True)


if __name__ == "__main__":
    main()
