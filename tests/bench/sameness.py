"""Whether the code still computes what it computed: short runs of everything, recorded and held against a record.

    python -m tests.bench.sameness --record FILE [--only NAME ...]
    python -m tests.bench.sameness --compare FILE [--only NAME ...]      (exit code 1 where anything differs)

Every method and the ways in which runs are set up differently (`sameness_runs`), four steps each by `align train`, with
evaluations and checkpoints, and once more from the checkpoint of step 3 with `--resume`, which must end the same. Kept
(`sameness_records`) are the sums of the prepared tokens, every line of metrics.jsonl without times, every tensor of
every checkpoint and of the final weights, what was written and what was measured. What says where a run stands, when it
was and of which code it is does not enter: neither the places of files nor the names of modules matter.

`sameness.json` beside this file is such a record. Bit for bit it holds for one kind of CPU and one version of torch,
which it names: others add in another order, and the largest differences then say whether it is only that. Elsewhere,
record there what was before and compare there. A run takes three seconds, all of them a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.own_process import settle, train

if TYPE_CHECKING:
    from tests.bench.sameness_records import Record
    from tests.bench.sameness_runs import Run

SHOWN = 5  # lines of what a run that fails has said last


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sameness", description="Whether numbers stay.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--record", type=Path, metavar="FILE")
    what.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of runs, such as dpo; default: all")
    given = parser.parse_args()
    settle()
    with tempfile.TemporaryDirectory(prefix="align-sameness-") as folder:
        if given.compare:
            return compare(given.compare, given.only, Path(folder))
        found = {name: make() for name, make in runs_of(given.only, Path(folder))}
    write(given.record, machine(), found)
    print(f"{given.record}: {len(found)} runs")
    return 0


def compare(file: Path, only: list[str] | None, folder: Path) -> int:
    """1 where a run differs, fails or is not there any more, else 0."""
    from tests.bench.sameness_records import differences, told_of

    (about, known), here = read(file), machine()
    for key in (key for key in here if about.get(key) != here[key]):
        print(f"recorded with {key} {about.get(key)}, this is {here[key]}: small differences are to be expected")
    wanted, wrong = only or list(known), 0
    for name, make in runs_of(wanted, folder):
        try:
            record = make()
        except Exception as error:
            record, told = None, str(error).strip().splitlines()[-SHOWN:]
        else:
            told = told_of(differences(known[name], record)) if name in known else ["it is not in the record"]
        wrong += bool(told)
        for line in told and [f"{name}: {'fails' if record is None else 'differs'}", *(f"    {t}" for t in told)]:
            print(line, flush=True)
    print(f"{wrong} of {len(wanted)} runs are not what they were" if wrong else f"all {len(wanted)} runs are the same")
    return int(wrong > 0)


def runs_of(wanted: list[str] | None, folder: Path) -> Iterator[tuple[str, Callable[[], Record]]]:
    """Those that are wanted, and what they read; each with what makes it in `folder`."""
    from tests.bench.sameness_runs import all_runs, in_order

    runs = all_runs()
    if unknown := [name for name in wanted or () if name not in runs]:
        raise SystemExit(f"no such run: {'; '.join(unknown)}. There are: {'; '.join(runs)}")
    order = in_order(runs, wanted or list(runs))
    for number, name in enumerate(order, start=1):
        began = time.perf_counter()
        yield name, partial(made, runs[name], name, folder)
        print(f"{number}/{len(order)} {name}: {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)


def made(run: Run, name: str, folder: Path) -> Record:
    """What it leaves, and where the same run, resumed from its middle, parts from it (nowhere)."""
    from tests.bench.sameness_records import differences, record_of
    from tests.bench.sameness_runs import CHECKPOINT

    def place(of: str) -> Path:
        return folder / of.replace(", ", "-").replace(" ", "-")

    whole, cut = place(name), place(f"{name}, cut")
    cache = whole.with_suffix(".cache")
    os.environ["ALIGN_CACHE"] = str(cache)
    words = run.placed(place)
    record = record_of(train(run.recipe, whole, *words), cache)
    shutil.copytree(whole, cut)
    for name in ("final", "critic"):
        shutil.rmtree(cut / name, ignore_errors=True)
    train(run.recipe, cut, *words, "--resume", str(cut / "checkpoints" / f"step-{CHECKPOINT:06d}"))
    apart = differences(record, record_of(cut, cache))
    return {**record, "resumed": {str(i): str(difference) for i, difference in enumerate(apart)}}


def machine() -> dict[str, str]:
    """On what bitwise equality depends."""
    import torch

    names = (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("model name"))  # fmt: skip
    return {"cpu": next(names, "unknown"), "torch": torch.__version__}


def write(path: Path, about: dict[str, str], runs: dict[str, Record]) -> None:
    """A line for each file of each run: its values, after the number of the line above that names their places."""
    numbers: dict[str, int] = {}
    written: list[str] = []
    for name, record in runs.items():
        files = ((file, [numbers.setdefault(json.dumps(list(of)), len(numbers)), *of.values()])
                 for file, of in record.items())  # fmt: skip
        lines = (f"{json.dumps(file)}: {json.dumps(of, separators=(',', ':'))}" for file, of in files)
        written.append(f"{json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n}")
    head = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in about.items())
    places = '"places": [\n' + ",\n".join(numbers) + "\n],\n"
    path.write_text(f"{{\n{head}{places}" + '"runs": {\n' + ",\n".join(written) + "\n}\n}\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, str], dict[str, Record]]:
    """On which machine runs were recorded, and their records."""
    found = json.loads(path.read_text(encoding="utf-8"))
    places, runs = found.pop("places"), found.pop("runs")
    return found, {
        name: {file: dict(zip(places[number], values, strict=True)) for file, (number, *values) in files.items()}
        for name, files in runs.items()
    }


if __name__ == "__main__":
    sys.exit(main())
