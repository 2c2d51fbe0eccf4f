"""`align-eval checkpoints`: every checkpoint of a run, judged against the model that the run began with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align_eval.commands.judge import JUDGE

WORDS = (
    "Prompts other than those that the run holds out (a task, or a .jsonl file); settings of judges, as of `judge`; "
    "decoding.max_completion_length=64 and others of how answers are written, as of `generate`."
)


def checkpoints(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Its folder; training may still go on.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[PROMPTS] [KEY=VALUE]...", help=WORDS)] = None,
    judge: Annotated[list[str] | None, typer.Option(metavar="JUDGE", help=JUDGE)] = None,
    gate: Annotated[
        str | None,
        typer.Option(metavar="GATE", help='Of the newest checkpoint, such as "delta > 0 at 95%"; exit code 3 if not.'),
    ] = None,
    gate_sequence: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Every checkpoint is a look of one sequence, which FILE remembers."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell calls and tokens; write and ask nothing.")] = False,
) -> None:
    """Judges every checkpoint's answers against those of step 0, in both orders, into evaluations/ and the report.

    Prompts are those of data.validation, or without it of data.test. What was written or judged is not made again.
    """
    from align_eval.judging.tell_checkpoints import Asked
    from align_eval.judging.tell_checkpoints import run as work

    work(run, Asked(words=words or (), judges=judge or (), gate=gate, record=gate_sequence), dry_run=dry_run)
