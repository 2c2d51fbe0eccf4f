"""What a model's name means: `[NAME=]WHAT`, where WHAT is

    runs/dpo, a model folder, asset:NAME, a hub name     weights, in this process or by a vLLM server started for them
    runs/dpo/checkpoints/step-000120                     a checkpoint, with the template of its run
    http://HOST:PORT/v1#MODEL                            an OpenAI-compatible endpoint (#MODEL where it serves several)
    answers.jsonl                                        answers that exist already
    gold                                                 the right answers of the task
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from align.errors import UserError
from align.runfolder.checkpoint import step_of
from align_eval.generation.asked import Model
from align_eval.generation.recorded import GOLD, Gold, Recorded
from align_eval.generation.settings import Settings

NAMED = re.compile(r"([^=:]+)=(.+)", re.DOTALL)  # a name may have a / in it; an address has its = behind a colon


def models_of(words: Sequence[str], settings: Settings) -> list[Model]:
    """UserError for what is no model, and for two of one name."""
    if not words:
        raise UserError("no model is given; name one or several with --model, such as --model runs/dpo")
    found = [model_of(word, settings) for word in words]
    twice = [name for name, count in Counter(model.name for model in found).items() if count > 1]
    if twice:
        raise UserError(f"--model: several are called {twice[0]}; write NAME=... before one, as in before={words[0]}")
    return found


def named(word: str) -> tuple[str, str]:
    """The name of `[NAME=]WHAT`, its usual one where none is given, and WHAT."""
    name, what = _split(word)
    return name or _name_of(Path(word).expanduser(), word), what


def _split(word: str) -> tuple[str, str]:
    """The name, if there is one, and WHAT; a folder that is there may have a = in its own name."""
    found = None if Path(word).expanduser().exists() else NAMED.fullmatch(word)
    return (found[1], found[2]) if found else ("", word)


def model_of(word: str, settings: Settings) -> Model:
    name, what = _split(word)
    if what == GOLD:
        return Gold(name or GOLD)
    if what.startswith(("http://", "https://")):
        from align_eval.generation.endpoint import endpoint_of

        return endpoint_of(name, what, settings)
    path = Path(what).expanduser()
    if path.suffix in (".jsonl", ".gz") and path.is_file():
        return Recorded(name or path.name.partition(".jsonl")[0], path)
    return _of_weights(name or _name_of(path, what), what, settings)


def _of_weights(name: str, what: str, settings: Settings) -> Model:
    from align_eval.generation.local import Local
    from align_eval.generation.trained import find

    where = find(what)
    if settings.engine == "vllm":
        from align_eval.generation.vllm import Served

        return Served(name, where, settings)
    return Local(name, where, settings)


def _name_of(path: Path, what: str) -> str:
    """`dpo` of runs/dpo and of runs/dpo/final, `dpo@120` of its checkpoint, `stories260k` of asset:stories260k."""
    if (step := step_of(path)) >= 0:
        return f"{path.resolve().parents[1].name}@{step}"
    if path.is_dir():
        whole = path.resolve()
        return whole.parent.name if whole.name == "final" else whole.name
    return what.removeprefix("asset:")
