"""How answers are written: the `key=value` words of a command. Unknown ones are refused with a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from align.errors import Mistakes
from align.recipe.text import Written, override
from align.recipe.types import build
from align.system.ranges import AtLeastOne, Count, NotNegative, Positive, Share, ShareAboveZero

MEMORY = ("limit", "max_rows", "concurrency", "timeout", "vllm_command", "vllm_arguments")  # change no answer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Decoding, and how much is asked for."""

    num_samples: AtLeastOne = 1  # answers to each item, each from a seed of its own
    temperature: NotNegative = 0.0  # 0 takes the likeliest token
    top_k: Count = 0  # 0 keeps all tokens
    top_p: ShareAboveZero = 1.0
    min_p: Share = 0.0
    seed: int = 0
    max_completion_length: Count = 0  # tokens; 0: as the run's recipe has it, else as the task has it
    stop_strings: list[str] = field(default_factory=list)  # beside those of the run's recipe and of the task
    shots: int | None = None  # worked examples before each question; null: as many as the task says
    rows: str = ""  # another file with the rows of the one task that is named, such as the whole of mmlu
    limit: Count = 0  # items of each task, as many of a category as its share; 0: all
    form: Literal["auto", "chat", "text"] = "auto"  # chat: through the chat template; auto: where the model has one
    system: str = ""  # a system message before each prompt, where the form is chat
    engine: Literal["local", "vllm"] = "local"  # of a model folder: in this process, or by a server started for it
    max_rows: AtLeastOne = 16  # answers that are written side by side: memory, not numbers
    concurrency: AtLeastOne = 8  # requests to an endpoint at once
    timeout: Positive = 600.0  # seconds for one answer of an endpoint
    vllm_command: str = "vllm serve"
    vllm_arguments: list[str] = field(default_factory=list)

    def decoding(self) -> dict[str, Any]:
        """What answers depend on, beside the model and the items."""
        return {k: v for k, v in asdict(self).items() if k not in (*MEMORY, "shots", "rows")}


def settings_of(words: Sequence[str]) -> Settings:
    """Mistakes with all that is wrong with `key=value` words."""
    written = Written("command line", {})
    override(written, words)
    made = build(written, "settings", Settings, written.values)
    if made is not None and made.temperature == 0 and made.num_samples > 1 and not written.mistakes:
        written.wrong("settings.num_samples", "several answers at temperature 0 are all the same; set temperature=0.7")
    if written.mistakes or made is None:
        raise Mistakes(dict.fromkeys(m.replace("settings.", "") for m in written.mistakes))
    return made


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of tasks, and `key=value` words."""
    return [w for w in words if "=" not in w], [w for w in words if "=" in w]
