"""What stands in for the models and data of recipes that name what is neither shipped nor in the checkout."""

from __future__ import annotations

ASIDE = ("data.max_length=500", "rollout.max_completion_length=8")  # a tiny model's tokens are short, so is its context
STAND_INS: dict[str, tuple[str, ...]] = {
    "gsm8k": (
        *("model.model_name_or_path=asset:stories260k", *ASIDE),
        *("data.train=tests/data/gsm8k/train.jsonl", "data.test=tests/data/gsm8k/test.jsonl", "data.validation=0.1"),
    ),
    "svamp": ("model.model_name_or_path=asset:stories260k", *ASIDE),
}


def stand_ins(recipe: str) -> tuple[str, ...]:
    return STAND_INS.get(recipe, ())
