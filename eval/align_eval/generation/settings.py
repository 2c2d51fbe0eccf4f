"""How answers are written: the `key=value` words of a command. Unknown ones are refused with a suggestion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from align.errors import UserError
from align.judges.budget import Budget
from align.system.ranges import AtLeastOne, Count, NotNegative, Positive, Share, ShareAboveZero
from align_eval.words import settings_from

NO_ANSWERS = (  # settings that change none
    "limit", "max_rows", "concurrency", "timeout", "vllm_command", "vllm_arguments", "max_calls", "max_total_tokens",
    "allow_revision",
)  # fmt: skip
FOREIGN = {  # others' words -> ours, or a sentence
    "max_new_tokens": "max_completion_length", "max_tokens": "max_completion_length",
    "max_gen_toks": "max_completion_length", "max_length": "max_completion_length",
    "max_completion_tokens": "max_completion_length", "response_length": "max_completion_length",
    "n": "num_samples", "best_of": "num_samples", "samples": "num_samples", "num_return_sequences": "num_samples",
    "num_generations": "num_samples", "repeats": "num_samples", "k": "num_samples",
    "do_sample": "temperature: 0 takes the likeliest token, above 0 tokens are drawn",
    "temp": "temperature", "topk": "top_k", "topp": "top_p", "random_seed": "seed",
    "stop": "stop_strings", "stop_sequences": "stop_strings", "until": "stop_strings",
    "num_fewshot": "shots", "fewshot": "shots", "few_shot": "shots", "n_shot": "shots",
    "items": "limit", "max_samples": "limit", "num_rows": "limit", "data": "rows",
    "apply_chat_template": "form", "chat_template": "form=chat (a model's own template is used)",
    "system_prompt": "system", "system_message": "system", "system_instruction": "system",
    "backend": "engine", "use_vllm": "engine=vllm", "batch_size": "max_rows", "num_concurrent": "concurrency",
    "max_concurrency": "concurrency", "workers": "concurrency", "budget": "max_calls or max_total_tokens",
    "max_cost": "max_total_tokens", "base_url": "--model http://HOST:PORT/v1#NAME", "model": "--model", "out": "--out",
    "api_key": "the environment variable OPENAI_API_KEY",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Decoding, and how much is asked for."""

    num_samples: AtLeastOne = 1  # answers to each item, each from a seed of its own
    temperature: NotNegative = 0.0  # 0 takes the likeliest token
    top_k: Count = 0  # 0 keeps all tokens
    top_p: ShareAboveZero = 1.0  # the likeliest tokens that have this share together; 1 keeps all
    min_p: Share = 0.0  # tokens with at least this share of the likeliest one's; 0 keeps all
    seed: int = 0  # of drawing tokens and items
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
    vllm_command: str = "vllm serve"  # that starts the server
    vllm_arguments: list[str] = field(default_factory=list)  # further ones of it
    max_calls: AtLeastOne | None = None  # answers that models may be asked for in this command
    max_total_tokens: AtLeastOne | None = None  # of prompts and answers
    allow_revision: bool = False  # go on where an endpoint serves another revision than the one that wrote before

    def decoding(self) -> dict[str, Any]:
        """What answers depend on, beside the model and the items."""
        return {k: v for k, v in asdict(self).items() if k not in (*NO_ANSWERS, "shots", "rows")}


def budget_of(settings: Settings) -> Budget:
    """Of one command."""
    return Budget(settings.max_calls, settings.max_total_tokens)


def settings_of(words: Sequence[str]) -> Settings:
    """Mistakes with all that is wrong with `key=value` words."""
    made = settings_from(words, Settings, FOREIGN)
    if made.temperature == 0 and made.num_samples > 1:
        raise UserError("num_samples: several answers at temperature 0 are all the same; set temperature=0.7")
    return made


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names of tasks, and `key=value` words."""
    return [w for w in words if "=" not in w], [w for w in words if "=" in w]
