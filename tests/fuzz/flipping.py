"""One flipped bit in a file that a run reads: it is recognised, or no number differs."""

from __future__ import annotations

from pathlib import Path

from fuzz.case import Case
from fuzz.harm import Harm
from fuzz.killing import undisturbed
from fuzz.runs import RECIPE, Run
from fuzz.sameness import differences, weights_differ

TELLS = (  # what only tells of steps that were made, and the keys that change no number
    "metrics.jsonl", "completions.jsonl", "test_before.json", "environment.json", "data.json", RECIPE,
)  # fmt: skip
HEAD = 400  # bytes in which most of what is not a number stands
INPUTS = ("model", "train.jsonl", "test.jsonl", RECIPE, "slow_reward.py")
UNREAD = (".lock", "report.html", "README.md", "LICENSE", "check_output.txt")


def flips(case: Case) -> None:
    made = undisturbed(case)
    if made is None:
        return
    run, whole = made
    if case.draw.random() < 0.25:
        path = flip(case, [case.folder / "cache-whole"])
        judge(case, run, path, case.live(run.train("cut"), case.place("whole")).code)
        return
    late = case.draw.randint(whole.instants * 5 // 10, whole.instants * 9 // 10)
    case.live(run.train("cut"), case.place("cut"), Harm("kill", late))
    read = case.draw.choice((("cut",), ("cut",), ("cache-cut",), INPUTS))
    path = flip(case, [case.folder / name for name in read])
    judge(case, run, path, case.live(run.train("cut", "--resume"), case.place("cut")).code)
    look(case)


def flip(case: Case, places: list[Path]) -> Path:
    """Of a file drawn among all below the places."""
    found = sorted(
        p for place in places for p in ([place] if place.is_file() else place.rglob("*"))
        if p.is_file() and p.stat().st_size and p.name not in UNREAD
    )  # fmt: skip
    path = case.draw.choice(found or [case.folder / "train.jsonl"])
    size = path.stat().st_size
    place = case.draw.randrange(min(size, HEAD) if case.draw.random() < 0.4 else size)
    bit = case.draw.randrange(8)
    with open(path, "r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))
    case.counts["flips"] += 1
    case.story.append(f"bit {bit} of byte {place} of {size} of {path.relative_to(case.folder)} flipped")
    return path


def judge(case: Case, run: Run, path: Path, code: int) -> None:
    """A run that ended well has the numbers of the one with the right bit."""
    if code:
        return
    whole, cut = case.folder / "whole", case.folder / "cut"
    found = weights_differ(whole, cut) if path.name in TELLS else differences(whole, cut)
    for difference in found:
        case.fault(f"{path.relative_to(case.folder)}: a flipped bit is not noticed: {difference}")


def look(case: Case) -> None:
    """What looks at the folder afterwards tells what it finds, or says what is wrong."""
    commands = ("report cut", "export cut exported", f"check {RECIPE}", "train cut --resume")
    case.live(case.draw.choice(commands).split(), case.place("cut"))
