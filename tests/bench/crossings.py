"""How far one warm step of training is spread over the files of `align`.

    python -m tests.bench.crossings [--record FILE | --compare FILE] [--pairs]

Two shipped recipes, `dpo` and `rloo`, on few rows, without evaluations, completions and checkpoints; a step is what
happens between the end of the optimiser's second update and the end of its third, on the thread that trains: the line
of the log, the next experience, forward and backward, the update. Python functions whose code stands in a file of
`align` are counted:

    calls       entries into such a function, from wherever. A generator counts when it is begun, not when it goes on;
                comprehensions and generator expressions are part of the function in which they stand.
    crossings   those calls whose caller, the next frame of the stack, is in another file of `align`.
    indirect    further calls that come from another file of `align` by way of code that is not ours: `module(rows)`
                calls `Scorer.forward` through torch, a contextmanager its generator through contextlib.
    files       files of `align` in which a counted call has ended up.

`crossings.json` beside this file has figures to compare with. Neither CPU nor time enters them; a version of Python or
of torch may.
"""

from __future__ import annotations

import argparse
import dis
import inspect
import json
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from tests.bench.own_process import settle, train

STEP = 3  # the update that ends the step
SMALL = (
    "data.num_rows=60", "data.validation=0", "data.test=0", "training.num_train_epochs=null", "training.max_steps=4",
    "training.eval_steps=0", "training.save_steps=0", "training.batch_size=8", "logging.num_completions=0",
    "logging.logging_steps=1000",
)  # fmt: skip
RUNS = {"dpo": SMALL, "rloo": (*SMALL, "rollout.num_generations=4", "rollout.max_completion_length=16")}
INNER = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")  # frames that are no functions
BEGIN = bytes([dis.opmap["RESUME"], 0])  # where a generator stands that goes on from its beginning


@dataclass
class Crossings:
    """Counts while it is the profile function of a thread: `sys.setprofile(found)`."""

    root: Path  # of the package
    calls: int = 0
    files: set[str] = field(default_factory=set)
    direct: Counter[tuple[str, str]] = field(default_factory=Counter)  # from, into -> crossings
    indirect: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event != "call" or not self.inside(frame.f_code) or not begins(frame):
            return
        self.calls += 1
        self.files.add(into := self.name(frame.f_code))
        pairs, caller = self.direct, frame.f_back
        while caller is not None and not self.inside(caller.f_code):
            pairs, caller = self.indirect, caller.f_back
        if caller is not None and (source := self.name(caller.f_code)) != into:
            pairs[source, into] += 1

    def inside(self, code: CodeType) -> bool:
        return code.co_filename.startswith(f"{self.root}/")

    def name(self, code: CodeType) -> str:
        return code.co_filename.removeprefix(f"{self.root}/")

    def told(self) -> dict[str, int]:
        crossed = {"crossings": self.direct.total(), "indirect": self.indirect.total()}
        return {"files": len(self.files), **crossed, "calls": self.calls}


def begins(frame: FrameType) -> bool:
    """Whether a function is entered here, and not a generator gone on with, or a piece of a function."""
    code = frame.f_code
    if code.co_name in INNER:
        return False
    resumable = code.co_flags & (inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR)
    return not resumable or code.co_code[frame.f_lasti :][:2] == BEGIN


def step_of(recipe: str, *words: str) -> Crossings:
    """Those of one step of this run."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    import align

    found, updates = Crossings(Path(align.__file__).parent), Counter[str]()

    def updated(*of_optimizer: Any) -> None:
        sys.setprofile(None)
        updates["made"] += 1
        if updates["made"] == STEP - 1:
            sys.setprofile(found)

    hook = register_optimizer_step_post_hook(updated)
    try:
        with tempfile.TemporaryDirectory(prefix="align-crossings-") as folder:
            train(recipe, Path(folder, "run"), *words)
    finally:
        hook.remove()
        sys.setprofile(None)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.crossings", description="Files that a step goes by.")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--record", type=Path, metavar="FILE")
    what.add_argument("--compare", type=Path, metavar="FILE")
    parser.add_argument("--pairs", action="store_true", help="also from which file into which, how often")
    given = parser.parse_args()
    settle()
    found = {recipe: step_of(recipe, *words) for recipe, words in RUNS.items()}
    figures = {recipe: of.told() for recipe, of in found.items()}
    known = json.loads(given.compare.read_text(encoding="utf-8")) if given.compare else {}
    for recipe, of in figures.items():
        print(f"{recipe}: {line(of, known.get(recipe, {}))}")
        pairs = found[recipe].direct + found[recipe].indirect
        for (one, other), count in pairs.most_common() if given.pairs else ():
            print(f"    {count:6,} {one} -> {other}")
    if given.record:
        rows = (f"{json.dumps(recipe)}: {json.dumps(of)}" for recipe, of in figures.items())
        given.record.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    return 0


def line(of: dict[str, int], before: dict[str, int]) -> str:
    """`23 files, 159 crossings (were 200), ...`."""

    def change(name: str) -> str:
        return f" (were {before[name]:,})" if before.get(name, of[name]) != of[name] else ""

    return ", ".join(f"{count:,} {name}{change(name)}" for name, count in of.items())


if __name__ == "__main__":
    sys.exit(main())
