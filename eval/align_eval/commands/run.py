"""`align-eval run`: answers, scores and results of verifiable tasks in one go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align_eval.commands.generate import MODEL

WORDS = "Tasks (names, or YAML files of your own) and settings such as limit=100 or temperature=0.7."
CHECKPOINTS = "A run: every checkpoint of it is scored, and evaluations/ in its folder filled for its report."


def run(
    words: Annotated[list[str], typer.Argument(metavar="TASK... [KEY=VALUE]...", help=WORDS)],
    model: Annotated[list[str] | None, typer.Option(metavar="MODEL", help=MODEL)] = None,
    out: Annotated[Path | None, typer.Option(help="The evaluation folder.")] = None,
    checkpoints: Annotated[list[Path] | None, typer.Option(metavar="RUN", help=CHECKPOINTS)] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell items, calls and tokens, and make nothing.")] = False,
) -> None:
    """Has models answer tasks, and scores the answers.

    Tasks: aqua, bbh, gsm8k, hhh, humaneval, ifeval, math500, mmlu, polite, svamp, truthfulqa.
    """
    from align_eval.running.tell import run as work

    work(words, model or [], out, checkpoints or [], dry_run=dry_run)
