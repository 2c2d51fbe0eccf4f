"""What rewards that compare a prompt's completions cannot be combined with is told before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
from mistakes import mistakes

from align.recipe.load import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
RANK = "reward.functions=[reward_functions:rank]"
BOTH = "reward.functions=[reward_functions:rank,repetition]"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "rewards")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (("grpo", RANK, "rollout.num_generations=1"), "rollout.num_generations: found 1; reward.functions.0 compares"),
        (("t_ppo", RANK, "rollout.window=8"), "those would end in different experiences"),
        (("ppo", RANK, "rollout.audit={}"), "rollout.audit: reward.functions.0 compares a prompt's completions"),
        (("scaf_grpo", RANK), "scaf_grpo tells hints where all completions fail, and reward.functions.0 compares"),
        (("rloo", RANK, "training.early_stopping_patience=2"), "early_stopping_patience: goes by reward, and"),
        (
            ("rloo", BOTH, "training.load_best_model_at_end=true", "training.metric_for_best_model=rewards/rank"),
            "load_best_model_at_end: goes by rewards/rank, and reward.functions.0 compares",
        ),
        (("rloo", "reward.functions=[{name: reward_functions:rank, cache: true}]"), "cache remembers completions one"),
    ],
)
def test_what_cannot_be_is_told(asked: tuple[str, ...], told: str):
    name, *overrides = asked
    found = mistakes(RECIPES / f"{name}.yaml", *overrides)
    assert any(told in text for text in found), found


def test_what_can_be_is_taken():
    load_recipe(RECIPES / "rloo.yaml", (RANK,))
    load_recipe(RECIPES / "rloo.yaml", (BOTH, "training.load_best_model_at_end=true"))
