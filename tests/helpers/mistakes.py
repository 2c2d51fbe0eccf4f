"""What the tests of mistakes share: a recipe that is right, rows that are right, and how a message is read."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from align import assets
from align.errors import Mistakes
from align.recipe.load import load_recipe

STORIES = Path(assets.__file__).parent / "stories260k"
ROW = {"prompt": "What is two and two?", "chosen": "Four, I think.", "rejected": "Work it out yourself."}
ASKED = {"role": "user", "content": "Hello?"}
ANSWERED = {"role": "assistant", "content": "Good day."}
RECIPE = """
method: {name: dpo}
model: {model_name_or_path: "asset:stories260k"}
data: {train: rows.jsonl, max_length: 64}
optim: {learning_rate: 1.0e-4, lr_scheduler_type: constant}
training: {batch_size: 4, max_steps: 2, layout: padded, save_steps: 1, output_dir: run}
logging: {num_completions: 0}
"""
Told = Callable[..., str]


def mistakes(path: Path | str, *overrides: str) -> list[str]:
    """What `load` finds wrong, one message each."""
    with pytest.raises(Mistakes) as caught:
        load_recipe(path, overrides)
    return caught.value.messages


def dump(path: str, *rows: Any) -> str:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def pairs(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [{**ROW, "prompt": f"What is {i} and two?", **changes} for i in range(count)]


def assert_nothing_was_begun() -> None:
    """The folder may have been locked, and is free for the next try."""
    left = [p.name for p in Path("run").iterdir()] if Path("run").is_dir() else []
    assert set(left) <= {".lock", "init"}
