"""`align-eval judge`: the answers of an evaluation, judged by a model, a rule, people, or several of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from align.errors import UserError

JUDGE = (
    "recorded:FILE, rule:longer (or a reward function, rule:my_file:function), reward:FOLDER, pairwise:FOLDER, "
    "local:FOLDER, http:MODEL, or a YAML file (details, panels); may be given again."
)
WORDS = (
    "instructions=graded (pairwise, pairwise-levels, reference, graded, graded-reference, rubric, or a YAML file), "
    "repeats=2, votes=5, temperature=0.7, baseline=MODEL, models=A,B, one_order=true, itself=true, items=50, "
    "max_calls=100, max_total_tokens=1000000, name=..., memory=FOLDER, rubric=FILE, concurrency=8, ..."
)


def judge(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An evaluation's folder, with answers.")],
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=WORDS)] = None,
    judge: Annotated[list[str] | None, typer.Option(metavar="JUDGE", help=JUDGE)] = None,
    base_url: Annotated[str, typer.Option(help="Of an OpenAI-compatible endpoint, such as http://HOST:8000/v1.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell calls and tokens, and ask nobody.")] = False,
    reparse: Annotated[
        bool, typer.Option("--reparse", help="Read kept replies anew (of --judge NAME, or of all); ask nobody.")
    ] = False,
) -> None:
    """Compares every two models' answers in both orders, or grades each answer; adds verdicts to the folder.

    What was judged is not judged again, what was replied is not paid for again, and what failed is asked again. A key
    for an endpoint is read from the environment variable OPENAI_API_KEY (or key_env=NAME) and written nowhere.
    """
    from align_eval.judging.tell import run, run_again

    if reparse:
        run_again(folder, judge or [])
    elif not judge:
        raise UserError(f"judge: no judge is named; add --judge: {JUDGE}")
    else:
        run(folder, judge, words or [], base_url, dry_run=dry_run)
