"""`align-eval inspect`: one item, whole, in the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.system.terminal import say


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder.")],
    item: Annotated[str, typer.Argument(metavar="ITEM", help="The item's id, or its number in items.jsonl, from 1.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Only answers of this model; may be given again.")
    ] = None,
) -> None:
    """Shows one item: its prompt, all answers, all verdicts with what the judge wrote, and all scores."""
    from align_eval.inspection import lines

    for line in lines(folder, item, model or ()):
        say(line)
