"""What stops a run other than a kill: signals to all of its processes, a full disk, no more open files."""

from __future__ import annotations

import signal

from fuzz.case import Case
from fuzz.harm import Harm
from fuzz.killing import settle, undisturbed
from fuzz.lives import Alarm

SOONEST = 0.3  # seconds, in which the command has begun
STOPPED = (0, 75)


def signals(case: Case) -> None:
    """Exit code 75 with the state saved, or the run had ended."""
    made = undisturbed(case)
    if made is None:
        return
    run, whole = made
    again: tuple[str, ...] = ()
    for _ in range(case.draw.randint(1, 3)):
        asked = case.draw.choice((signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
        alarm = Alarm(SOONEST + case.draw.uniform(0.0, whole.seconds), asked)
        life = case.live(run.train("cut", *again), case.place("cut"), alarm=alarm)
        case.counts["signals"] += 1
        again = ("--resume",)
        if life.code not in STOPPED and not life.problems:
            case.fault(f"asked to stop, it ended with {life.code}", life)
    settle(case, run)


def full_disks(case: Case) -> None:
    """Exit code 1 or 2 with a word about it; with room again the run goes on as if nothing had been."""
    made = undisturbed(case)
    if made is None:
        return
    run, whole = made
    again: tuple[str, ...] = ()
    for _ in range(case.draw.randint(1, 2)):
        kind = case.draw.choice(("fill", "fill", "starve"))
        size = int(10 ** case.draw.uniform(0, 6)) if kind == "fill" else case.draw.randint(0, 6)
        harm = Harm(kind, case.draw.randint(1, max(2, whole.instants)), size)  # type: ignore[arg-type]
        life = case.live(run.train("cut", *again), case.place("cut"), harm)
        case.counts["full disks"] += 1
        again = ("--resume",)
        if life.code not in (0, 1, 2) and not life.problems:
            case.fault(f"without room it ended with {life.code}", life)
    settle(case, run)
