"""Harms runs in every way that is known, for a while, and says what did not hold.

    make fuzz MINUTES=60 SEED=1         two workers side by side, cases of every kind
    make fuzz SEED=1 CASE=kills:17      one case again; its folder is kept

Exit code 1 where a fault was found. Kills and signals that come after a time hit another instant on another machine;
all else is the same again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fuzz.cases import ROUND
from fuzz.workers import again, fuzz


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description="Random harm to runs.")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kinds", default=",".join(ROUND), help="of cases, by commas")
    parser.add_argument("--case", default="", help="KIND:NUMBER, that case alone; or several, by commas")
    parser.add_argument("--keep", type=Path, help="where the folders of faulty cases stay")
    given = parser.parse_args()
    if given.case:
        return again(given.case.split(","), given.seed, given.keep)
    return fuzz(given.minutes, given.seed, given.workers, tuple(given.kinds.split(",")), given.keep)


if __name__ == "__main__":
    sys.exit(main())
