"""What was written: the same prompts before and after, and all of it to be searched, filtered and sorted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from align.report.findings import is_cut
from align.report.folder import Run
from align.report.lines import LoggedCompletion, spread
from align.report.parts.blocks import Answer, Block, Card, Finder, fold, note
from align.report.parts.embedded import deflated, json_of
from align.report.text import clip, short
from align.system.terminal import visible

SHOWN_CARDS, FOLDED_CARDS = 3, 9
SHOWN_TEXT = 4000  # characters
FOUND = 4000  # completions that can be searched
LIMITS = (4000, 2000, 1000, 500, 250, 120)  # characters of a text, the largest with which all of them fit
BUDGET = 1_000_000  # bytes of all of them, as they stand in the page
Titled = tuple[str, LoggedCompletion]


def samples(run: Run) -> list[Block]:
    """The first and the last completion of each prompt side by side."""
    by_prompt: dict[str, list[LoggedCompletion]] = {}
    for sample in run.samples:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    shown = list(by_prompt.items())[: SHOWN_CARDS + FOLDED_CARDS]
    cards = [card(prompt, *_first_and_last(of)) for prompt, of in shown]
    rest = len(by_prompt) - len(cards)
    left = [note(f"{rest:,} more prompts are in completions.jsonl.")] if rest else []
    return [*cards[:SHOWN_CARDS], *more_cards(cards[SHOWN_CARDS:], left)]


def more_cards(cards: Sequence[Card], left: Sequence[Block] = ()) -> list[Block]:
    """Folded away, with what is said of those that are left out."""
    title = f"{len(cards)} more {'prompt' if len(cards) == 1 else 'prompts'}"
    return fold(title, [*cards, *left]) if cards else []


def _first_and_last(of: Sequence[LoggedCompletion]) -> tuple[list[Titled], list[Titled]]:
    """Both of them, and the others."""
    earliest = next((s for s in of if s.stage == "before"), min(of, key=lambda s: s.step))
    latest = next((s for s in reversed(of) if s.stage == "after"), max(of, key=lambda s: s.step))
    others = [s for s in of if earliest.step < s.step < latest.step]
    both, rest = ([(_when(sample), sample) for sample in some] for some in ((earliest, latest), others))
    return (both if earliest is not latest else both[:1]), rest


def _when(sample: LoggedCompletion) -> str:
    if sample.stage == "before":
        return "Before training"
    return f"After {sample.step:,} steps" if sample.step else "After training"


def card(prompt: str, answers: Sequence[Titled], between: Sequence[Titled] = ()) -> Card:
    """A prompt and what was answered, each answer with its title; what came in between is folded away."""
    shown, folded = ([_answer(*one) for one in some] for some in (answers, between))
    return Card(prompt=clip(prompt, SHOWN_TEXT), answers=shown, between=folded)


def _answer(title: str, sample: LoggedCompletion) -> Answer:
    facts = [f"{name} {short(value)}" for name, value in sample.rewards.items()]
    facts.append(f"{sample.length:,} tokens" if sample.length is not None else "")
    facts.append("cut at the limit" if is_cut(sample.stop_reason) else sample.stop_reason)
    text = clip(sample.text.removeprefix(" "), SHOWN_TEXT)
    return Answer(title=title, facts=" · ".join(f for f in facts if f), text=text)


# ---- all of them ----------------------------------------------------------------------------------------------------


def finder(run: Run) -> list[Block]:
    """All that was logged, and the rollouts; nothing of one alone."""
    found = [*spread(run.samples, FOUND), *spread(run.rollouts, FOUND)]
    if len(found) < 2:
        return []
    limit = next((n for n in LIMITS if len(deflated(json_of(_told(found, n)))) <= BUDGET), LIMITS[-1])
    counted = [("samples", run.samples), ("rollouts", run.rollouts)]
    less = [f"{FOUND:,} of {len(some):,} {name}" for name, some in counted if len(some) > FOUND]
    return [
        Finder(data=_told(found, limit), count=len(found)),
        *([note(f"Here are {' and '.join(less)}, taken at even distances.")] if less else []),
    ]


def _told(found: Sequence[LoggedCompletion], limit: int) -> dict[str, Any]:
    """What finder.js reads: columns, a place for each completion; `kinds` are its stages, rollouts the last of them."""
    prompts = _numbers(s.prompt for s in found)
    kinds, stops = _numbers(s.stage for s in found), _numbers(s.stop_reason for s in found)
    rewards = _numbers(name for s in found for name in s.rewards)
    return {
        "prompts": [_cut(prompt, limit) for prompt in prompts],
        "kinds": [_cut(kind, limit) for kind in kinds],
        "stops": [_cut(reason, limit) for reason in stops],
        "prompt": [prompts[s.prompt] for s in found],
        "kind": [kinds[s.stage] for s in found],
        "stop": [stops[s.stop_reason] for s in found],
        "step": [s.step for s in found],
        "length": [s.length for s in found],
        "text": [_cut(s.text.removeprefix(" "), limit) for s in found],
        "rewards": {_cut(name, limit): [_finite(s.rewards.get(name)) for s in found] for name in rewards},
    }


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Each name once, with its number."""
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


def _cut(text: str, limit: int) -> str:
    return visible(clip(text, limit))


def _finite(value: float | None) -> float | None:
    return float(f"{value:.5g}") if value is not None and math.isfinite(value) else None
