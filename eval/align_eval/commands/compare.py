"""`align-eval compare`: two runs, or two models of an evaluation, side by side; and a gate on what comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.errors import UserError
from align.system.terminal import say


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="A run folder; with -e the name of a model.")],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="Another one, tested on the same rows.")],
    evaluation: Annotated[
        Path | None, typer.Option("--evaluation", "-e", metavar="FOLDER", help="Where both models have answers.")
    ] = None,
    judge: Annotated[str, typer.Option(metavar="NAME", help="Of several judges, this one alone.")] = "",
    gate: Annotated[
        str | None,
        typer.Option(metavar="GATE", help='Such as "delta > 0 at 95%": exit code 3 where that is not shown.'),
    ] = None,
    gate_sequence: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The gate may be asked again and again; FILE remembers how often it was."),
    ] = None,
) -> None:
    """Compares AFTER with BEFORE, paired: win rates, scores, their differences with intervals, tests; what is missing.

    A gate names a number (delta: share of prompts won less share lost; win_rate, lc_win_rate, or a metric) and is met
    where the whole interval of that level is on its side. Exit codes: 0, or 3 where a gate is not met.
    """
    from align_eval.analysis.compare_command import run

    if gate_sequence is not None and not gate:
        raise UserError('compare: --gate-sequence belongs to --gate, such as --gate "delta > 0 at 95%"')
    if judge and evaluation is None:
        raise UserError("compare: --judge belongs to --evaluation; two runs have no judges")
    for line in run(before, after, evaluation, judge, (gate, gate_sequence)):
        say(line)
