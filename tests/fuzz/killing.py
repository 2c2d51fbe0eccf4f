"""Kills at any instant, then --resume: the run ends as the one that nobody disturbed."""

from __future__ import annotations

from fuzz.case import Case
from fuzz.harm import Harm
from fuzz.lives import Alarm, Life
from fuzz.runs import Run, draw_run
from fuzz.sameness import differences

MOST_KILLS = 6


def kills(case: Case) -> None:
    made = undisturbed(case)
    if made is None:
        return
    run, whole = made
    place, again = case.place("cut"), ()
    for _ in range(case.draw.randint(2, MOST_KILLS)):
        harm, alarm = draw_kill(case, whole)
        life = case.live(run.train("cut", *again), place, harm, alarm)
        again = ("--resume",)
        if not life.killed and life.code != 0:
            case.fault(f"ended with {life.code} instead of being killed, or well", life)
            return
    settle(case, run)


def undisturbed(case: Case) -> tuple[Run, Life] | None:
    """A drawn run and its life, which must be good."""
    run = draw_run(case.draw, case.folder)
    life = case.live(run.train("whole"), case.place("whole"))
    if life.code:
        case.fault("a drawn run does not train", life)
        return None
    return run, life


def draw_kill(case: Case, whole: Life) -> tuple[Harm | None, Alarm | None]:
    """Before a change, inside a write, or whenever it comes."""
    draw = case.draw
    instant = draw.randint(1, max(2, whole.instants * 2 // 3))
    kind = draw.choice(("kill", "kill", "tear", "time"))
    if kind == "time":
        return None, Alarm(draw.uniform(0.02, whole.seconds), 9)
    return Harm(kind, instant, int(10 ** draw.uniform(0, 6)) if kind == "tear" else 0), None  # type: ignore[arg-type]


def settle(case: Case, run: Run) -> None:
    """The last life, which nobody disturbs: what it leaves is the undisturbed run."""
    life = case.live(run.train("cut", "--resume"), case.place("cut"))
    if life.code:
        case.fault(f"cannot be gone on with: {life.code}", life)
        return
    for difference in differences(case.folder / "whole", case.folder / "cut"):
        case.fault(f"not the undisturbed run: {difference}")
