"""What `align-eval leaderboard` prints and writes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from align.errors import UserError
from align_eval.analysis.evaluation import Evaluation, evaluation_of
from align_eval.analysis.leaderboard import BoardSettings, Ties, leaderboard
from align_eval.analysis.missing import missing_scores
from align_eval.analysis.scores import scored
from align_eval.analysis.telling import of_leaderboard, of_remarks, of_scores
from align_eval.analysis.writing import put, told_written
from align_eval.results.document import Sections
from align_eval.results.reading import ready
from align_eval.statistics.resampling import Resampling


def run(folder: Path, judge: str, ties: str, anchors: dict[str, float], how: Resampling) -> Iterator[str]:
    """Lines as they come. Of a folder with scores alone, these alone."""
    kinds = {kind: kind for kind in get_args(Ties)}
    if ties not in kinds:
        raise UserError(f"--ties: found {ties!r}; expected {' or '.join(kinds)}")
    ready(folder)
    source = evaluation_of(folder)
    scores = scored(source, how)
    if scores and (why := _no_games(source.only(judge))):
        yield from _scores_alone(folder, source, how, why)
        return
    found = leaderboard(source, judge, BoardSettings(how=how, ties=kinds[ties], anchors=anchors))
    yield from of_leaderboard(found)
    yield from of_scores(scores)
    others = replace(source, verdicts=[v for v in source.verdicts if v.judge != found.judge])  # grades count once
    every = [*found.failures, *missing_scores(others)]
    sections = replace(found.sections(), scores=scores)
    yield told_written(put(folder, sections, source.models, how, (found.warnings, every)), sections)


def _no_games(source: Evaluation) -> str:
    """Why no two models can be ranked; empty where they can."""
    judged = list(dict.fromkeys(name for v in source.verdicts for name in v.models))
    if len(judged) > 1:
        return ""
    return f"{judged[0]} alone was judged, and there is none to compare it with" if judged else "no verdicts"


def _scores_alone(folder: Path, source: Evaluation, how: Resampling, why: str) -> Iterator[str]:
    scores, failures = scored(source, how), missing_scores(source)
    yield f"{why}; scores:"
    yield from of_scores(scores)
    failures = [*failures, *source.unmade]
    yield from of_remarks(source.warnings, failures)
    told = (list(source.warnings), failures)
    yield f"written: {put(folder, Sections(scores=scores), source.models, how, told)}"


def anchors_of(words: Sequence[str]) -> dict[str, float]:
    """MODEL=RATING, and a model's name may have an equals sign. UserError."""
    found: dict[str, float] = {}
    for word in words:
        name, sign, number = word.rpartition("=")
        if name in found:
            raise UserError(f"--anchor: {name} stands twice; keep one of them")
        try:
            found[name] = float(number)
        except ValueError:
            sign = ""
        if not sign or not name or not math.isfinite(found[name]):
            raise UserError(f"--anchor: found {word!r}; expected MODEL=RATING, such as base=1000")
    return found
