"""`align-eval leaderboard`: all models of an evaluation, and who cannot be told from the best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder.")],
    judge: Annotated[str, typer.Option(metavar="NAME", help="Whose verdicts, where there are several judges.")] = "",
    ties: Annotated[str, typer.Option(metavar="half|davidson", help="As half a win, or by Davidson's model.")] = "half",
    anchor: Annotated[
        list[str] | None, typer.Option(metavar="MODEL=RATING", help="A rating that is given; their mean is met.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Of the bootstrap over prompts.", min=2)] = 1000,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
) -> None:
    """Ranks models: Bradley-Terry ratings on the scale of Elo (mean 1000, or anchors), their intervals, tied sets,
    every pair; and the scores of all models. Grades of single answers make games, too: the higher one wins."""
    from align_eval.analysis.leaderboard_command import anchors_of, run
    from align_eval.statistics.resampling import Resampling

    for line in run(folder, judge, ties, anchors_of(anchor or []), Resampling(num=resamples, seed=seed)):
        say(line)
