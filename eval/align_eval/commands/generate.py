"""`align-eval generate`: answers of models to tasks, or to the prompts of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORDS = "Tasks (names, YAML files) or a .jsonl file with prompts; and settings such as temperature=0.7."
MODEL = "[NAME=]WHAT: a model folder, a run, a checkpoint, asset:NAME, http://HOST/v1#MODEL, answers.jsonl, or gold."


def generate(
    words: Annotated[list[str], typer.Argument(metavar="TASK... [KEY=VALUE]...", help=WORDS)],
    model: Annotated[list[str], typer.Option(metavar="MODEL", help=MODEL)],
    out: Annotated[Path, typer.Option(help="The evaluation folder; what it holds already is not made again.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell items, calls and tokens, and make nothing.")] = False,
) -> None:
    """Has models answer, greedily or sampled; after a kill the same command makes what is missing."""
    from align_eval.running.tell import generate as work

    work(words, model, out, dry_run=dry_run)
