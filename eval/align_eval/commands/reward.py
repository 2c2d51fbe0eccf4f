"""`align-eval reward`: rewards of answers, by a reward model or as a policy trained by DPO has learned them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORDS = "reference=FOLDER and beta=0.1 (of implicit rewards), models=A,B, items=50, batch_size=32, name=..."


def reward(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder, with answers.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=WORDS)] = None,
    reward: Annotated[
        list[str] | None,
        typer.Option(metavar="REWARD", help="reward:FOLDER, implicit:FOLDER, or rule:NAME; may be given again."),
    ] = None,
) -> None:
    """Gives every answer a reward, kept as a score.

    To compare answers by rewards: align-eval judge --judge reward:FOLDER

    An implicit reward is beta (log pi(answer) - log ref(answer)), what DPO has taught the policy beyond its reference.
    """
    from align.errors import UserError
    from align_eval.judging.rewarding import run

    if not reward:
        kinds = "reward:FOLDER, rule:my_file:function, or implicit:FOLDER with reference=FOLDER"
        raise UserError(f"reward: names no reward; add --reward {kinds}")
    run(folder, reward, words or [])
