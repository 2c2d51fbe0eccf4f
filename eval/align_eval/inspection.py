"""One item as text: the prompt, all answers, scores and verdicts with what the judges wrote, nothing cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from align.errors import UserError, did_you_mean
from align.judges.base import Verdict
from align_eval.analysis.evaluation import Evaluation
from align_eval.analysis.games import is_shown
from align_eval.items import About, as_text, by_item, whole
from align_eval.records import Answer, Score

RULE = "-" * 72


def lines(folder: Path, item: str, models: Sequence[str] = ()) -> Iterator[str]:
    """`item`: its id, or its number from 1 where no id is so. UserError: no such item, no such model."""
    found = whole(folder)
    about = _find(folder, found, item)
    models = [found.model(name) for name in models]
    yield from _item(about)
    for answer in about.answers:
        if not models or answer.model in models:
            yield from _answer(answer, [s for s in about.scores if _same(s, answer)])
    silent = [s for s in about.scores if not any(_same(s, a) for a in about.answers)]
    for score in silent:
        if not models or score.model in models:
            yield from ("", f"Score without an answer: {score.model}: {_score(score)}")
    verdicts = [v for v in about.verdicts if not models or set(v.models) <= {*models}]
    for verdict in verdicts:
        yield from _verdict(verdict)
    yield from ("", RULE, f"{len(about.answers)} answers, {len(verdicts)} verdicts, {len(about.scores)} scores")


def _find(folder: Path, found: Evaluation, item: str) -> About:
    rows = by_item(found)
    if item in rows:
        return rows[item]
    if item.isdecimal() and 1 <= int(item) <= len(rows):
        return list(rows.values())[int(item) - 1]
    raise UserError(f"{folder}: no such item: {item}; it has {len(rows):,} items.{did_you_mean(item, rows)}")


def _item(about: About) -> Iterator[str]:
    item = about.item
    yield f"Item {item.id}" + (f" ({item.category})" if item.category else "")
    yield from ("", as_text(item.prompt) or "(the prompt is not there)")
    if item.reference is not None:
        yield from ("", "Reference:", str(item.reference))
    for key, value in item.columns.items():
        yield f"{key}: {value}"


def _answer(answer: Answer, scores: Sequence[Score]) -> Iterator[str]:
    sample = f", sample {answer.sample}" if answer.sample else ""
    facts = [f"{len(answer.text):,} characters", answer.stop]
    if answer.num_tokens is not None:
        facts.insert(1, f"{answer.num_tokens:,} tokens")
    yield from ("", RULE, f"{answer.model}{sample}: {', '.join(f for f in facts if f)}", "")
    yield answer.text if answer.text.strip() else "(empty)"
    for score in scores:
        yield _score(score)


def _score(score: Score) -> str:
    return f"{score.metric}: " + (f"missing: {score.why}" if score.score is None else f"{score.score:g}")


def _verdict(verdict: Verdict) -> Iterator[str]:
    again = f", asked again ({verdict.repeat})" if verdict.repeat else ""
    yield from ("", RULE, f"{verdict.judge}{again}: {said(verdict)}")
    for key, value in verdict.columns.items():
        yield f"{key}: {value}"
    if verdict.raw:
        yield from ("", verdict.raw)


def said(verdict: Verdict) -> str:
    """A verdict in words: who is preferred, who was shown first, or why there is none."""
    first = verdict.models[0 if verdict.order != "ba" else -1]
    shown = f" ({first} shown first)" if is_shown(verdict) else " (no order is known)" if verdict.order else ""
    about = " and ".join(verdict.models)
    if verdict.score is None:
        return f"no verdict on {about}{shown}: {verdict.why}"
    if len(verdict.models) == 1:
        return f"grade {verdict.score:g} for {about}"
    if verdict.score == 0.5:
        return f"tie of {about}{shown}"
    sure = "" if verdict.score in (0, 1) else f" with {max(verdict.score, 1 - verdict.score):.2f}"
    better, worse = (verdict.models[i] for i in ((0, 1) if verdict.score > 0.5 else (1, 0)))
    return f"{better} preferred to {worse}{sure}{', much better' if verdict.strong else ''}{shown}"


def _same(score: Score, answer: Answer) -> bool:
    return (score.model, score.sample) == (answer.model, answer.sample)
