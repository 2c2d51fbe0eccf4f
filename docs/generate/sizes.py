"""What models of usual sizes need, by `align plan`: how many GPUs of 80 GB, and how much of one."""

from __future__ import annotations

import json
from typing import Any

from align.cli.plan import ANY_TOKENIZER, Gpus
from align.plan.advice import cheapest, outlooks
from align.plan.work import Asked, work_of
from align.recipe.load import Recipe, load_recipe

COUNTS = (1, 2, 4, 8, 16, 32, 64)  # GPUs, eight of them in a node
MODELS = {  # widths of published decoders, as the keys below
    "0.5 billion (as Qwen2.5 0.5B)": (896, 4864, 24, 14, 2, 151936, True),
    "1.5 billion (as Qwen2.5 1.5B)": (1536, 8960, 28, 12, 2, 151936, True),
    "3 billion (as Llama 3.2 3B)": (3072, 8192, 28, 24, 8, 128256, True),
    "8 billion (as Llama 3.1 8B)": (4096, 14336, 32, 32, 8, 128256, False),
    "32 billion (as Qwen2.5 32B)": (5120, 27648, 64, 40, 8, 152064, False),
    "70 billion (as Llama 3.1 70B)": (8192, 28672, 80, 64, 8, 128256, False),
}
KEYS = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
        "vocab_size", "tie_word_embeddings")  # fmt: skip
SAID = ("training.gradient_checkpointing=true", "data.max_length=2048")
ADAPTER = ("model.lora={r: 16}", "model.dtype=bfloat16")  # frozen weights lose nothing by it
WRITES = ("data.max_length=1024", "rollout.max_completion_length=1024", "rollout.max_rows=16")
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "`sft`": ("sft", SAID),
    "`sft`, LoRA": ("sft", (*SAID, *ADAPTER)),
    "`dpo`": ("dpo", SAID),
    "`dpo`, LoRA": ("dpo", (*SAID, *ADAPTER)),
    "`grpo`": ("grpo", (*SAID, *WRITES)),
    "`grpo`, LoRA": ("grpo", (*SAID, *WRITES, *ADAPTER)),
}


def sizes() -> str:
    head = f"| weights | {' | '.join(RUNS)} |\n| --- |{' --- |' * len(RUNS)}\n"
    rows = (f"| {name} | {' | '.join(_need(*run, widths) for run in RUNS.values())} |\n" for name, widths in
            MODELS.items())  # fmt: skip
    return head + "".join(rows)


def _need(method: str, words: tuple[str, ...], widths: tuple[Any, ...]) -> str:
    """The fewest GPUs on which it fits, the sharding of the shortest step there, and the memory of one."""
    recipe = _recipe(method, words, widths)
    for count in COUNTS:
        place = Gpus(gpus=count).place()
        work = work_of(recipe, Asked(ranks=count))
        assert work is not None
        if best := cheapest([one for one in outlooks(recipe, work, place) if not one.sharding.away], place.room):
            how = f"{count} x {best.sharding.name}" if count > 1 else "1"
            return f"{how}, {best.memory.peak / 1e9:.0f} GB"
    return f"more than {COUNTS[-1]}"


def _recipe(method: str, words: tuple[str, ...], widths: tuple[Any, ...]) -> Recipe:
    config = dict(zip(KEYS, widths, strict=True)) | {"model_type": "llama", "max_position_embeddings": 8192}
    model = (f"model.config={json.dumps(config)}", "model.model_name_or_path=null",
             f"model.tokenizer_name_or_path={ANY_TOKENIZER}")  # fmt: skip
    return load_recipe(method, [*words, *model])
