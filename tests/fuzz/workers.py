"""Cases side by side, and what is told of them."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

from fuzz.case import Case
from fuzz.cases import run_case

FIGURES = ("cases", "kills", "lives", "flips", "signals", "full disks", "recipes", "rows")


def again(names: list[str], seed: int, keep: Path | None) -> int:
    """Those cases, and what each did."""
    began, found = time.monotonic(), []
    for name in names:
        kind, _, number = name.partition(":")
        case = run_case(kind, int(number), seed, keep)
        print(f"{name}:", *[f"    {line}" for line in case.story], sep="\n", flush=True)
        found.append(told(case))
        if case.faults:
            _say_faults(found[-1])
    return report(found, time.monotonic() - began)


def fuzz(minutes: float, seed: int, workers: int, kinds: tuple[str, ...], keep: Path | None) -> int:
    """Until the time is over; no case is cut short."""
    began = time.monotonic()
    reading, writing = os.pipe()
    for worker in range(workers):
        if not os.fork():
            os.close(reading)
            _work(worker, workers, (began + 60 * minutes, seed, kinds, keep), writing)
    os.close(writing)
    found: list[dict[str, Any]] = []
    with os.fdopen(reading, encoding="utf-8") as lines:
        for line in lines:
            found.append(json.loads(line))
            if found[-1]["faults"]:
                _say_faults(found[-1])
                print(*[f"    {command}" for command in found[-1]["story"]], sep="\n", flush=True)
    for _ in range(workers):
        os.wait()
    return report(found, time.monotonic() - began)


def _work(worker: int, workers: int, task: tuple[float, int, tuple[str, ...], Path | None], writing: int) -> None:
    end, seed, kinds, keep = task
    turn = 0
    while time.monotonic() < end:
        place = worker + workers * turn
        case = run_case(kinds[place % len(kinds)], place, seed, keep)
        os.write(writing, (json.dumps(told(case)) + "\n").encode())
        turn += 1
    os._exit(0)


def told(case: Case) -> dict[str, Any]:
    return {"again": case.again, "counts": case.counts, "faults": case.faults, "story": case.story}


def _say_faults(case: dict[str, Any]) -> None:
    print(f"FAULT: {case['again']}", *[f"  {fault}" for fault in case["faults"]], sep="\n", flush=True)


def report(found: list[dict[str, Any]], seconds: float) -> int:
    """The figures; 1 where there was a fault."""
    counts: Counter[str] = Counter(cases=len(found))
    for case in found:
        counts.update(case["counts"])
    faulty = [case for case in found if case["faults"]]
    print(", ".join(f"{counts[name]} {name}" for name in FIGURES) + f" in {seconds / 60:.1f} min")
    print(f"{len(faulty)} cases with faults" + "".join(f"\n  {case['again']}" for case in faulty))
    return int(bool(faulty))
