"""How many steps a run has: what `align check` tells is what `align train` does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from small_runs import BRIEF, FRESH, metrics, run, write_rows

from align.cli.main import main
from align.recipe.load import load_recipe
from align.recipe.steps import count_steps
from align.scoring import experience
from align.sources import offline
from align.sources.offline import Offline
from align.training import evaluate


@pytest.mark.parametrize("epochs", [0.004, 0.09, 1.0])
def test_a_run_has_the_steps_that_check_promises(epochs: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"What is {i}?", "completion": f"{i}."} for i in range(12)]
    training = {"batch_size": 5, "num_train_epochs": epochs}
    data = {"train": write_rows(tmp_path / "rows.jsonl", rows)}
    recipe = {"method": {"name": "sft"}, "model": FRESH, "data": data, "training": training, "logging": BRIEF}
    out = run(tmp_path / "out", recipe)
    capsys.readouterr()
    assert main(["check", str(out.with_suffix(".yaml"))]) == 0
    promised = re.search(r"steps: (\d+),", capsys.readouterr().out)
    assert promised
    assert int(promised[1]) == metrics(out)[-1]["step"] >= 1


@pytest.mark.parametrize(("epochs", "steps"), [(0.0001, 2), (0.5, 4), (1, 8)])
def test_a_policy_that_writes_has_at_least_one_experience(epochs: float, steps: int):
    words = ["training.max_steps=null", f"training.num_train_epochs={epochs}", "training.batch_size=4"]
    assert count_steps(load_recipe("grpo", [*words, "rollout.num_prompts=8", "rollout.num_iterations=1"]), 32) == steps


def test_held_out_rows_are_listed_where_they_are_evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows = [{"prompt": f"What is {i}?", "completion": f"{i}."} for i in range(12)]
    training = {"batch_size": 4, "max_steps": 5, "eval_steps": 3}
    data = {"train": (path := write_rows(tmp_path / "rows.jsonl", rows)), "validation": path}
    recipe = {"method": {"name": "sft"}, "model": FRESH, "data": data, "training": training, "logging": BRIEF}
    asked: list[str] = []
    plain = Offline.held_out
    monkeypatch.setattr(Offline, "held_out", lambda self, split: asked.append(split) or plain(self, split))
    run(tmp_path / "out", recipe)
    assert asked == ["validation"] * 2


@pytest.mark.parametrize("method", ["kto", "sft"])
def test_no_step_and_no_portion_has_fewer_rows_than_the_method_compares(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rows = [{"prompt": f"What is {i}?", "completion": f"{i}.", "label": i % 2 == 0} for i in range(9)]
    training = {"batch_size": 4, "num_train_epochs": 1, "layout": "padded"}
    data = {"train": (path := write_rows(tmp_path / "rows.jsonl", rows)), "validation": path}
    recipe = {"method": {"name": method}, "model": FRESH, "data": data, "training": training, "logging": BRIEF}
    seen: list[int] = []
    plain = experience.gather_experience

    def counted(batching: Any, groups: Any, *others: Any) -> Any:
        seen.append(len(groups))
        return plain(batching, groups, *others)

    for module in (offline, evaluate):
        monkeypatch.setattr(module, "gather_experience", counted)
    run(tmp_path / "out", recipe)
    assert seen == ([4, 4, 2, 4, 5] if method == "kto" else [4, 4, 1, 4, 4, 1])
