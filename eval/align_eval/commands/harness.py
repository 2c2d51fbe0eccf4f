"""`align-eval harness`: EleutherAI's lm-evaluation-harness on our models, its numbers among ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

WORDS = "Settings: limit, num_fewshot, batch_size, form, include_path, command, timeout, arguments."
MODEL = "[NAME=]WHAT: a model folder, a run, or asset:NAME."


def harness(
    tasks: Annotated[list[str], typer.Option(metavar="TASK", help="Of the harness; several, or with commas.")],
    model: Annotated[list[str], typer.Option(metavar="MODEL", help=MODEL)],
    out: Annotated[Path, typer.Option(help="The evaluation folder whose results.json gets the numbers.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=WORDS)] = None,
) -> None:
    """Runs lm-evaluation-harness where it is installed, and puts its numbers into the same results.json."""
    from align.system.terminal import say
    from align_eval.results.wording import told
    from align_eval.running.harness import harness_settings, run_harness

    for row in run_harness(tasks, model, out, harness_settings(words or [])).sections.scores:
        say(f"{row.task:24} {row.model:24} {row.metric:28} {told(row.estimate)} (n {row.estimate.n:,})")
    say(f"{out}/results.json")
