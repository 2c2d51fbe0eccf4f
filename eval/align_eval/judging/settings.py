"""What is asked of judges, and details of one, out of KEY=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from align.errors import UserError
from align.judges.named import JudgeSpec
from align.recipe.types import build, names
from align.system.ranges import AtLeastOne, Count
from align_eval.words import SECTION, no_such, read, refuse


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Which answers are judged, how often, and what it may cost."""

    models: tuple[str, ...] = ()  # empty: all of the folder
    baseline: str = ""  # the model that all others are compared with; empty: each with each
    itself: bool = False  # each model is compared with itself, too: what the judge says of no difference
    one_order: bool = False  # of two answers, only one is shown first; half as dear, and blind to that bias
    repeats: AtLeastOne = 1  # the same question, asked so often: the judge's own noise
    items: Count = 0  # only so many, the first; 0: all
    max_calls: AtLeastOne | None = None  # of models that judge, in this command
    max_total_tokens: AtLeastOne | None = None  # of prompts and replies
    memory: Path | None = None  # where replies are kept; None: in the evaluation's folder
    allow_revision: bool = False  # go on where an endpoint serves another revision than the one that replied before


FOREIGN = {  # others' words -> ours
    "max_new_tokens": "max_tokens", "max_completion_length": "max_tokens", "max_completion_tokens": "max_tokens",
    "n": "votes", "num_samples": "votes", "samples": "votes", "do_sample": "temperature: 0 takes the likeliest token",
    "limit": "items", "max_samples": "items", "num_rows": "items", "reference_model": "baseline", "base": "baseline",
    "system_prompt": "instructions", "prompt": "instructions", "template": "instructions",
    "api_key": "key_env, the name of the environment variable that holds it", "max_rows": "batch_size",
    "rate_limit": "per_minute", "requests_per_minute": "per_minute", "workers": "concurrency",
    "num_concurrent": "concurrency", "max_retries": "retries", "budget": "max_calls or max_total_tokens",
    "max_cost": "max_total_tokens", "swap": "one_order", "both_orders": "one_order", "cache": "memory",
    "model": "--judge http:MODEL", "judge": "--judge",
}  # fmt: skip


def settings_of(words: Sequence[str], base_url: str = "") -> tuple[Judging, dict[str, Any]]:
    """What is asked, and details of the judge. Mistakes: a key that neither has, a value that cannot be."""
    written = read(words)
    judging, of_judge = names(Judging), [name for name in names(JudgeSpec) if name != "judge"]
    details = {key: written.values.pop(key) for key in of_judge if key in written.values}
    for key in [key for key in written.values if key not in judging]:
        del written.values[key]
        written.wrong(key, no_such(key, [*judging, *of_judge], FOREIGN))
    if isinstance(models := written.values.get("models"), str):
        written.values["models"] = models.split(",")
    made = build(written, SECTION, Judging, written.values)
    refuse(written)
    assert made is not None
    if base_url:
        details["base_url"] = base_url
    if "rubric" in details:
        details["rubric"] = _text(Path(str(details["rubric"])).expanduser())
    memory = made.memory.expanduser() if made.memory else None
    return replace(made, memory=memory), details


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"rubric={path}: cannot be read: {error}; name a text file") from None
