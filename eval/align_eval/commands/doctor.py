"""`align-eval doctor`: what an endpoint can and cannot do."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    base_url: Annotated[str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8000/v1.")],
    model: Annotated[str, typer.Option(help="Its name there; where none is given, the first that is served.")] = "",
    key_env: Annotated[str, typer.Option(metavar="NAME", help="Environment variable of the key.")] = "OPENAI_API_KEY",
    timeout: Annotated[float, typer.Option(help="Seconds for an answer.", min=0.1)] = 30.0,
) -> None:
    """Asks an endpoint a handful of small questions: chat, a system turn, the token limit, seeds, log-probabilities,
    JSON, and a verdict; says what it can and what that means. Costs a few hundred tokens."""
    from align_eval.judging.endpoint import run

    run(base_url, model, key_env, timeout)
