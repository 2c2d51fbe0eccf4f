"""Recipes and rows that nobody would write: refused with a message, or done; never a traceback, never for ever."""

from __future__ import annotations

import json
from typing import Any

import yaml
from fuzz.case import Case
from fuzz.lives import Alarm
from fuzz.runs import RECIPE, draw_run
from fuzz.strange import change, strange

ENOUGH = Alarm(60.0, 9)  # a recipe may ask for much
PIECES = (b"\0", b"\t", b"&a [*a]", b"!!python/name:os.system", b"\xff", b"{", b"- ", b": ", b"'", b"\xc2\x85")
TINY = ("training.max_steps=1", "data.num_rows=20", "training.max_eval_rows=2", "logging.num_completions=0")


def recipes(case: Case) -> None:
    """A drawn run's recipe, or a shipped one's text, changed in some places."""
    draw = case.draw
    draw_run(draw, case.folder)
    path = case.folder / RECIPE
    if draw.random() < 0.3:
        path.write_bytes(garbled(case, path.read_bytes()))
    else:
        made = yaml.safe_load(path.read_text())
        for _ in range(draw.randint(1, 3)):
            case.story.append(change(draw, made))
        path.write_text(written(case, made), encoding="utf-8", errors="surrogatepass")
    case.counts["recipes"] += 1
    life = case.live(["check", RECIPE], case.place("any"))
    if life.code == 0 and draw.random() < 0.5:
        case.live(["train", RECIPE, "training.output_dir=out", *TINY], case.place("any"), alarm=ENOUGH)


def garbled(case: Case, text: bytes) -> bytes:
    """Bytes replaced, put in, taken out."""
    made = bytearray(text)
    for _ in range(case.draw.randint(1, 5)):
        place = case.draw.randrange(len(made))
        length = case.draw.choice((0, 1, 30))
        made[place : place + length] = b"" if length == 30 else case.draw.choice(PIECES)
    case.story.append("bytes of the recipe changed")
    return bytes(made)


def written(case: Case, made: Any) -> str:
    try:
        return yaml.safe_dump(made, sort_keys=False, allow_unicode=True)
    except RecursionError:
        return "a: " + "[" * 3000 + "]" * 3000


def rows(case: Case) -> None:
    """Rows of a drawn run, some of them changed; `check` sees what `train` refuses."""
    draw = case.draw
    draw_run(draw, case.folder)
    path = case.folder / "train.jsonl"
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:20]]
    for row in draw.sample(found, draw.randint(1, 6)):
        case.story.append(change(draw, row))
    lines = [line_of(case, row) for row in found]
    path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
    case.counts["rows"] += len(lines)
    more = (f"data.bad_rows={draw.choice(('error', 'drop'))}", "data.validation=0", "training.eval_steps=0", *TINY)
    checked = case.live(["check", RECIPE, "training.load_best_model_at_end=false", *more], case.place("any"))
    life = case.live(
        ["train", RECIPE, "training.output_dir=out", "training.load_best_model_at_end=false", *more], case.place("any")
    )
    if checked.code == 0 and life.code == 2:
        case.fault("check found no mistake in what train refuses", life)


def line_of(case: Case, row: Any) -> str:
    """As JSON, mostly."""
    try:
        line = json.dumps(row if case.draw.random() < 0.98 else strange(case.draw))
    except RecursionError:
        line = "[" * 5000 + "]" * 5000
    return line[: len(line) // 2] if case.draw.random() < 0.01 else line
