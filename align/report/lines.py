"""Lines of JSON in a run folder, of files that may be growing, and the completions among them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from align.report.measures import drawable, number

MOST = 20_000  # completions read of a file; a run that logs samples at every step can have millions
ROLLOUT = "rollout"  # the stage of what was learned from
EXPERIENCES = 20  # whose rollouts are read; a run that records all of them can have thousands
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class LoggedCompletion:
    """One completion that was logged."""

    prompt: str
    text: str
    stage: str
    step: int
    length: int | None = None  # tokens
    stop_reason: str = ""
    rewards: dict[str, float] = field(default_factory=dict)  # by function, where it was judged


def lines(path: Path, notes: list[str], limit: int | None = None) -> Iterator[dict[str, Any]]:
    """JSON objects of a file that may be growing: its last line may be torn, others are counted aloud."""
    bad: list[int] = []
    number = 0
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if limit is not None and number > limit:
                    notes.append(f"{path.name}: only its first {limit:,} lines are shown.")
                    break
                try:
                    found = json.loads(line) if line.strip() else None
                except (ValueError, RecursionError):
                    found = bad.append(number)
                if isinstance(found, dict):
                    yield found
    if bad == [number]:
        notes.append(f"{path.name}: its last line is torn (the run was cut, or still writes) and was left out.")
    elif bad:
        notes.append(f"{path.name}: {len(bad)} lines are not valid JSON and were left out, the first is line {bad[0]}.")


def rollouts(folder: Path, notes: list[str]) -> list[LoggedCompletion]:
    """The last line of each completion, which has all its verdicts; by experience, of some where there are many."""
    found: list[LoggedCompletion] = []
    paths = sorted(folder.glob("*.jsonl"))
    if len(paths) > EXPERIENCES:
        told = f"{EXPERIENCES} of {len(paths):,} experiences are shown, the first and the last of them."
        notes.append(f"rollouts/: {told}")
    for path in spread(paths, EXPERIENCES):
        by_place = {(str(row.get("number")), str(row.get("place"))): row for row in lines(path, notes, MOST)}
        found += [rollout for row in by_place.values() if (rollout := _rollout(row))]
    return found


def spread(found: Sequence[T], most: int) -> list[T]:
    """All, or as many as may be at even distances, the first and the last among them."""
    if len(found) <= most:
        return list(found)
    return [found[i * (len(found) - 1) // (most - 1)] for i in range(most)]


def _rollout(row: dict[str, Any]) -> LoggedCompletion | None:
    tokens = row.get("tokens")
    length = len(tokens) if isinstance(tokens, list) else None
    told = {"prompt": row.get("asked") or f"(row {row.get('row')} of the data)", "text": row.get("text")}
    told |= {"step": row.get("version"), "stage": ROLLOUT, "length": length, "stop_reason": row.get("stop")}
    return completion(told | {"rewards": row.get("rewards")}) if "text" in row else None


def completion(line: dict[str, Any]) -> LoggedCompletion | None:
    """Of a line of completions.jsonl; None where it is no such line."""
    if "prompt" not in line or "text" not in line:
        return None
    lengths = line.get("lengths")
    length = line.get("length", line.get("completion_length"))
    if length is None:
        length = lengths.get("completion") if isinstance(lengths, dict) else lengths
    step = number(line.get("step"))
    length = number(length)
    steps = int(step) if step is not None and drawable(step) else 0
    return LoggedCompletion(
        prompt=_words(line["prompt"]),
        text=_words(line["text"]),
        stage=str(line.get("stage") or ("after" if steps else "before")),
        step=steps,
        length=int(length) if length is not None and drawable(length) else None,
        stop_reason=str(line.get("stop_reason") or ""),
        rewards=_rewards(line.get("rewards")),
    )


def _rewards(given: Any) -> dict[str, float]:
    found = {str(name): number(value) for name, value in given.items()} if isinstance(given, dict) else {}
    return {name: value for name, value in found.items() if value is not None}


def _words(value: Any) -> str:
    """A string, or a list of messages as `role: content` paragraphs."""
    if isinstance(value, list):
        told = (f"{m.get('role', '?')}: {m.get('content', '')}" if isinstance(m, dict) else str(m) for m in value)
        return "\n\n".join(told)
    return "" if value is None else str(value)
