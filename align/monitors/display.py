"""What the user sees while it trains: one live line on a terminal, plain lines in a log, from the main process only."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import progress as bars
from rich.table import Table
from rich.text import Text

from align.methods.metrics import about
from align.runfolder.logs import Completion
from align.system.terminal import Guarded, say

WINDOW = 50  # steps that the rate is measured over
EVERY = 30.0  # seconds between plain lines of other long work
SAMPLES, LOGGED = 4, 2  # completions of an evaluation that are shown on a terminal, in a log
SHOWN = {  # metric: its format
    "loss": "{:.4f}", "nll": "{:.4f}", "accuracy": "{:.3f}", "margin": "{:.3f}", "reward": "{:.3f}", "kl": "{:.2f}",
    "eval/loss": "{:.4f}", "eval/nll": "{:.4f}", "eval/reward": "{:.3f}", "memory_mb": "{:.0f} MiB",
}  # fmt: skip
LASTING = ("reward", "kl")


class Rate:
    """Tokens and steps a second over the last steps; the clock is seconds of `time.monotonic`."""

    def __init__(self, now: float, tokens: float | int = 0):
        self._seen: deque[tuple[float, float | int]] = deque([(now, tokens)], maxlen=WINDOW + 1)

    def add(self, now: float, tokens: float | int) -> None:
        """A step ended; `tokens` is the count since the run began."""
        self._seen.append((now, tokens))

    def pause(self, seconds: float) -> None:
        """So long the step under way has stood still for an evaluation or a checkpoint."""
        self._seen = deque(((t + seconds, n) for t, n in self._seen), maxlen=WINDOW + 1)

    @property
    def seconds(self) -> float:
        return max(self._seen[-1][0] - self._seen[0][0], 1e-9)

    @property
    def tokens_per_second(self) -> float:
        return (self._seen[-1][1] - self._seen[0][1]) / self.seconds

    def time_left(self, steps: int) -> float | None:
        """Seconds that `steps` more will take; None before the first one."""
        done = len(self._seen) - 1
        return steps * self.seconds / done if done else None


class Display:
    """`with Display(...) as display:`, `display.step(...)` after every step."""

    def __init__(
        self, num_steps: int, *, done: int = 0, num_tokens: int = 0, logging_steps: int = 1, main: bool = True
    ):
        """`done` steps and `num_tokens` tokens are behind (resume); only `main` shows anything. Without steps there is
        no line of the training, as before it."""
        self.num_steps, self.done, self.logging_steps, self.main = num_steps, done, max(logging_steps, 1), main
        self._out = sys.stdout
        console = Guarded(file=self._out, highlight=False)
        self._live = _bar(console) if main and console.is_terminal and not console.is_dumb_terminal else None
        self._task = bars.TaskID(0)
        self._rate = Rate(time.monotonic(), num_tokens)
        self._lasting: dict[str, float | int] = {}  # of the experience under way, whose first step alone tells it

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        if self._live and self.num_steps:
            self._task = self._live.add_task("training", total=self.num_steps, completed=self.done, facts="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._live:
            self._live.stop()

    def step(self, step: int, row: Mapping[str, float | int]) -> None:
        """After `step` (1 is the first) with its metrics; `num_tokens` of them counts from the run's beginning."""
        self.done = step
        self._rate.add(time.monotonic(), row.get("num_tokens", 0))
        self._lasting |= {key: row[key] for key in LASTING if key in row}
        told = self._lasting | dict(row)
        if self._live:
            self._live.update(self._task, completed=step, facts="  ".join(self.facts(told)))
        elif self.main and (step % self.logging_steps == 0 or step == self.num_steps):
            self._line("  ".join([f"step {step}/{self.num_steps}", *self.facts(told)]))

    def facts(self, numbers: Mapping[str, float | int]) -> list[str]:
        left = self._rate.time_left(self.num_steps - self.done)
        shown = [f"{_short(self._rate.tokens_per_second)} tokens/s", f"{_clock(left)} left"]
        return shown + [f"{_word(key)} {form.format(numbers[key])}" for key, form in SHOWN.items() if key in numbers]

    def say(self, text: str) -> None:
        """A line for the user, above the live one."""
        if self._live:
            self._live.console.print(Text(text))
        elif self.main:
            self._line(text)

    def samples(self, completions: Sequence[Completion]) -> None:
        """What the policy has just written for an evaluation and earned: a table, in a log a line for each."""
        shown = completions[:SAMPLES]
        if self._live and shown:
            self._live.console.print(_table(shown))
        elif self.main:
            for c in shown[:LOGGED]:
                said = f"...{_one_line(c.prompt)[-30:]!r} {_one_line(c.text)[:90]!r}"
                self._line(f"  held-out: {_earned(c)}  ended by {c.stop_reason}  {said}")

    @contextmanager
    def during(self, what: str, total: int | None, every: float = EVERY) -> Iterator[Callable[[int], None]]:
        """Other long work (an evaluation) of `total` rows, where that is known: yields what to call with the number of
        rows just done. A log gets a line `every` so many seconds."""
        start = shown = time.monotonic()
        task = self._live.add_task(what, total=total, facts="") if self._live else None
        done = 0

        def advance(rows: int) -> None:
            nonlocal done, shown
            done += rows
            now = time.monotonic()
            left = (now - start) / max(done, 1) * (total - done) if total else None
            facts = f"{done / max(now - start, 1e-9):.1f} rows/s  {_clock(left)} left"
            if self._live and task is not None:
                self._live.update(task, completed=done, facts=facts)
            elif self.main and now - shown > every:
                shown = now
                self._line(f"{what} {done}/{total or '?'}  {facts}")

        try:
            yield advance
        finally:
            if self._live and task is not None:
                self._live.remove_task(task)
            self._rate.pause(time.monotonic() - start)

    def _line(self, text: str) -> None:
        say(text, file=self._out)


def _word(key: str) -> str:
    name = key.removeprefix("eval/")
    return f"{'held-out ' if name != key else ''}{about(name).brief or name}"


def _table(completions: Sequence[Completion]) -> Table:
    names = list(dict.fromkeys(name for c in completions for name in c.rewards))
    table = Table("prompt", "completion", *names, "end", show_edge=False)
    for c in completions:
        rewards = ("-" if (value := c.rewards.get(name)) is None else f"{value:.3g}" for name in names)
        text = [Text(f"...{_one_line(c.prompt)[-40:]}"), Text(_one_line(c.text)[:160])]
        table.add_row(*text, *rewards, c.stop_reason)
    return table


def _earned(completion: Completion) -> str:
    return "  ".join(f"{n} {'-' if v is None else format(v, '.3g')}" for n, v in completion.rewards.items())


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _bar(console: Guarded) -> bars.Progress:
    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=20),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[facts]}", markup=False),
        console=console,
        refresh_per_second=4,
    )


def _short(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f}{letter}"
    return f"{number:.0f}"


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
