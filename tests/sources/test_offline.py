"""Experiences of rows that are there before, which last for several steps."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import BRIEF, FRESH, metrics, run, same, train, weights, write_rows

from align.cli.main import main
from align.recipe.load import Recipe
from align.training.snapshot import load_experience

CAREFUL = '''
"""Imitation that tells how far the policy has gone since its experience began, and remembers what it has seen."""
from dataclasses import dataclass
from jaxtyping import Float
from torch import Tensor
from align.batches import Demonstrations, Sequences
from align.methods.base import Loss, OfflineMethod, Term, metric, remembered

@dataclass(frozen=True, kw_only=True)
class Dated(Sequences):
    old_logps: Float[Tensor, "B T"]

@dataclass(frozen=True, kw_only=True)
class Careful(OfflineMethod[Demonstrations[Dated]]):
    name = "careful"
    paper = ""
    shares: tuple[float, ...] = remembered((1.0, 0.0), told=True)

    def controllers(self, batch: Demonstrations[Dated]) -> dict[str, list[float]]:
        surprise = -batch.completion.old_logps[batch.completion.mask].mean().item()
        return {"shares": [self.shares[0] / 2, self.shares[1] + surprise]}

    def loss(self, batch: Demonstrations[Dated]) -> Loss:
        tokens = batch.completion
        ratio = (tokens.logps - tokens.old_logps).exp()
        losses = Term(-tokens.logps * (1 + self.shares[1]), tokens.mask)
        return Loss(losses, away=metric((ratio - 1).abs(), tokens.mask))
'''
EVERY = ("training.save_steps=1", "training.save_total_limit=99")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten steps of three rows on experiences of four steps, so that the last one is cut short by the run's end."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "careful.py").write_text(CAREFUL)
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i * 'very '}{i}."} for i in range(12)]
    recipe = {
        "method": {"name": "careful:Careful"}, "model": FRESH, "logging": BRIEF,
        "data": {"train": write_rows(folder / "rows.jsonl", rows)},
        "optim": {"learning_rate": 1e-2, "lr_scheduler_type": "constant"},
        "training": {"batch_size": 3, "num_minibatches": 4, "max_steps": 10},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return run(folder / "out", recipe, *EVERY)


@pytest.fixture
def again(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A copy of the run, gone on with from a step."""
    monkeypatch.chdir(whole.parent)

    def resumed(step: int, *words: str) -> Path:
        out = Path(shutil.copytree(whole, tmp_path / "cut", ignore=shutil.ignore_patterns("final")))
        words = ("--resume", str(out / f"checkpoints/step-{step:06d}"), *words)
        return train(whole.with_suffix(".yaml"), out, *EVERY, *words)

    return resumed


def fresh(out: Path) -> list[int]:
    """The steps, counted from 0, whose policy is that of `old_logps`: an experience begins."""
    return [step for step, row in enumerate(metrics(out)) if row["away"] < 1e-4]


def test_the_old_policy_is_that_before_an_experience_of_several_steps(whole: Path):
    assert fresh(whole) == [0, 4, 8]
    told = [(row["shares/0"], row["shares/1"]) for row in metrics(whole) if "shares/0" in row]
    assert [share for share, _ in told] == [1, 0.5, 0.25]
    assert 0 == told[0][1] < told[1][1] < told[2][1]
    kept = [load_experience(whole / f"checkpoints/step-{step:06d}") is not None for step in range(1, 11)]
    assert kept == [step not in (4, 8, 10) for step in range(1, 11)]


def test_a_run_goes_on_in_the_middle_of_an_experience(whole: Path, again: Callable[..., Path]):
    out = again(6)
    assert same(weights(whole), weights(out))
    assert metrics(whole) == metrics(out)


def test_a_run_that_is_made_longer_begins_an_experience_with_its_next_step(again: Callable[..., Path]):
    out = again(10, "training.max_steps=14", "--allow-changes", "training.max_steps")
    assert fresh(out) == [0, 4, 8, 10, 12]


def test_other_minibatches_from_here_on(again: Callable[..., Path]):
    out = again(6, "training.num_minibatches=5", "--allow-changes", "training.num_minibatches")
    assert fresh(out) == [0, 4, 6]


def test_rows_are_learned_from_in_the_same_order_however_long_an_experience_is(tmp_path: Path):
    rows = [{"prompt": f"{i}?", "chosen": f"yes{i * ' yes'}", "rejected": f"no{(9 - i) * ' no'}"} for i in range(10)]
    data = {"train": write_rows(tmp_path / "rows.jsonl", rows)}
    training = {"batch_size": 3, "num_train_epochs": 2}
    recipe = {"method": {"name": "dpo"}, "model": FRESH, "data": data, "training": training, "logging": BRIEF}
    outs = [run(tmp_path / f"{n}", recipe, f"training.num_minibatches={n}") for n in (1, 4)]
    assert same(*(weights(out) for out in outs))
    one, other = (metrics(out) for out in outs)
    assert [row["loss"] for row in one] == [row["loss"] for row in other]


def test_check_tells_of_minibatches(whole: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(whole.parent)
    recipe = str(whole.with_suffix(".yaml"))
    assert main(["check", recipe]) == 0
    assert "experience: 12 groups, learned from in 4 steps of 3" in capsys.readouterr().out
    assert main(["check", recipe, "training.num_minibatches=1"]) == 0
    assert "every ratio between them is 1" in capsys.readouterr().out
    assert main(["check", "grpo", "training.num_minibatches=2", "training.batch_size=4"]) == 2
    assert "rollout.num_prompts: 8" in capsys.readouterr().err


def test_a_checkpoint_from_before_a_key_was_there_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(6)]
    training = {"batch_size": 3, "max_steps": 2, "save_steps": 1}
    data = {"train": write_rows(tmp_path / "rows.jsonl", rows)}
    recipe = {"method": {"name": "sft"}, "model": FRESH, "data": data, "training": training, "logging": BRIEF}
    with monkeypatch.context() as patch:
        patch.setattr(Recipe, "to_dict", without_minibatches(Recipe.to_dict))
        out = run(tmp_path / "out", recipe)
    assert main(["train", str(out), "--resume", str(out / "checkpoints/step-000001")]) == 0
    assert main(["train", str(out), "training.num_minibatches=2", "--resume"]) == 2
    assert "training.num_minibatches: the saved run has 1, this one 2" in capsys.readouterr().err


def without_minibatches(plain: Callable[[Recipe], dict[str, Any]]) -> Callable[[Recipe], dict[str, Any]]:
    def older(recipe: Recipe) -> dict[str, Any]:
        found = plain(recipe)
        del found["training"]["num_minibatches"]
        return found

    return older
