"""`align-eval style`: who wins at equal style, and what style is worth to a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def style(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation, with answers and verdicts.")],
    judge: Annotated[str, typer.Option(metavar="NAME", help="Whose verdicts, where there are several judges.")] = "",
    centred: Annotated[
        bool, typer.Option("--centred", help="As Arena-Hard publishes it: at the average style, not at equal style.")
    ] = False,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap over prompts.", min=2)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Ranks models with length, Markdown headers, lists and bold taken out, beside the raw ones.

    An effect is what one standard deviation more of a feature earns, in Elo points.
    """
    from align_eval.analysis.evaluation import evaluation_of
    from align_eval.analysis.style import style_board
    from align_eval.analysis.telling import of_styles
    from align_eval.analysis.writing import put, told_written
    from align_eval.results.reading import ready
    from align_eval.statistics.resampling import Resampling

    ready(folder)
    how, source = Resampling(num=resamples, seed=seed), evaluation_of(folder)
    found = style_board(source, judge, how, centred=centred)
    for line in of_styles(found):
        say(line)
    path = put(folder, found.sections(), source.models, how, (found.warnings, []))
    say(told_written(path, found.sections()))
