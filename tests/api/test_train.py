"""`align.train` from Python: what is given as objects is kept in the run folder, and the process stays as it was."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from small_runs import same, weights
from transformers import AutoModelForCausalLM, AutoTokenizer

import align
from align.cli.main import main
from align.models.sources import resolve

ROWS = [{"prompt": f"Tell me of tea {i}.", "chosen": "Tea is warm, please.", "rejected": "No tea."} for i in range(12)]
FEW = {"max_steps": 2, "eval_steps": 0, "batch_size": 4}
QUIET = {"num_completions": 0}
STORIES: dict[str, Any] = {  # of a run in which the policy writes
    "training": {**FEW, "save_steps": 1},
    "rollout": {"num_generations": 2, "max_completion_length": 6},
    "data": {"num_rows": 12, "validation": None, "test": None},
    "logging": QUIET,
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_rows_that_are_given_train_as_those_of_a_file_and_the_command_goes_on_with_the_run() -> None:
    seen: list[tuple[int, float]] = []

    def look(step: int, metrics: Any) -> bool:
        seen.append((step, metrics["loss"]))
        return step == 1

    run = align.train("dpo", data=ROWS, training={**FEW, "save_steps": 1}, logging=QUIET, on_step=look)
    assert run.outcome == {
        "step": 1, "num_steps": 2, "ended_early": True, "final_step": 1, "ended_by": "onlooker",
    }  # fmt: skip
    assert seen == [(1, pytest.approx(float(np.log(2)), abs=1e-6))]  # policy and reference are equal before the step
    assert main(["train", str(run.folder), "--resume"]) == 0  # by what stands in the folder alone
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    words = ["data.train=rows.jsonl", "data.columns={}", "data.test=null", "training.output_dir=file"]
    words += ["training.max_steps=2", "training.eval_steps=0", "training.batch_size=4", "logging.num_completions=0"]
    assert main(["train", "dpo", *words]) == 0
    assert same(weights(run.folder), weights(Path("file")))
    other = align.train("dpo", data=datasets.Dataset.from_list(ROWS), training=FEW, logging=QUIET)
    assert other.folder == Path("runs/dpo-2")
    assert same(weights(other.folder), weights(run.folder))
    assert list(other.metrics["loss"]) == list(run.metrics["loss"])


def test_a_loaded_model_is_kept_and_stays_as_it_was() -> None:
    folder = resolve("asset:stories260k")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    run = align.train("sft", data=[{"text": "Once there was tea."}] * 4, model=model, training=FEW, logging=QUIET)
    assert all(torch.equal(before[name], p) for name, p in model.state_dict().items())
    trained = run.model()
    assert not trained.training
    moved = [n for n, p in trained.state_dict().items() if not torch.equal(p.cpu(), before[n])]
    assert "model.embed_tokens.weight" in moved
    model.name_or_path = ""
    with pytest.raises(align.UserError, match="does not know the folder"):
        align.train("sft", data=ROWS, model=model)
    again = align.train(
        "sft", data=[{"text": "Once there was tea."}] * 4, training=FEW, logging=QUIET,
        model={"model_name_or_path": model, "tokenizer_name_or_path": tokenizer},
    )  # fmt: skip
    assert same(weights(run.folder), weights(again.folder))


SCALE = 0.5


async def slowly(completions: list[str], **columns: Any) -> list[float]:
    await asyncio.sleep(0)
    return [float(len(text)) for text in completions]


def test_functions_are_rewards_also_within_a_loop_and_others_are_another_run() -> None:
    def shortness(completions: list[str], **columns: Any) -> list[float]:
        return [-SCALE * len(text) for text in completions]

    rewards = [shortness, {"name": lambda completions, **_: [1.0] * len(completions), "weight": 2.0}, slowly]

    async def cell() -> align.Run:  # as a notebook runs one
        return align.train("rloo", rewards=rewards, on_step=lambda step, metrics: step == 1, **STORIES)

    run = asyncio.run(cell())
    (row,) = run.metrics.to_dict("records")
    assert row["rewards/lambda"] == 1.0
    assert row["rewards/shortness"] == pytest.approx(-SCALE * row["rewards/slowly"])
    assert row["reward"] == pytest.approx(2.0 + row["rewards/shortness"] + row["rewards/slowly"])
    with pytest.raises(align.UserError, match=r"shortness was given as an object.*resume\(rewards"):
        run.resume()
    with pytest.MonkeyPatch.context() as changed:
        changed.setattr(sys.modules[__name__], "SCALE", 2.0)
        with pytest.raises(align.UserError, match=r"inputs.rewards.shortness"):
            run.resume(rewards=rewards)
    assert run.resume(rewards=rewards).outcome == {"step": 2, "num_steps": 2, "ended_early": False, "final_step": 2}


def test_all_mistakes_are_told_together_and_nothing_is_left() -> None:
    with pytest.raises(align.UserError) as told:
        align.train("dpo", data=ROWS, method={"bta": 1}, training={"lr": 3})
    assert "align.train: method.bta: no such key; dpo has beta. Did you mean beta?" in str(told.value)
    assert "align.train: training.lr: no such key. lr: here `optim.learning_rate`." in str(told.value)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": [1]}, r"data.train: row 1: found int; a row is a dictionary"),
        ({"data": iter(ROWS)}, r"data.train: found list_iterator.*accepted: a list of rows"),
        ({"data": [{"prompt": object()}]}, r"row 1: cannot be written as JSON: found object"),
        ({"data": [{"prompt": float("nan")}]}, r"row 1: cannot be written as JSON"),
        ({"data": ROWS, "training": {"seed": torch.tensor(1)}}, r"training.seed: found Tensor"),
        ({"training.seed": 1}, r"training.seed: write training=\{'seed': 1\}"),
        ({"on_step": 3}, r"on_step: found int; expected a function"),
        ({"rewards": [len]}, r"reward: dpo learns from rows"),
        ({"rewards": [len], "reward": {"functions": []}}, r"rewards: conflicts with reward="),
        ({"model": "no/such/model"}, r"no/such/model"),
    ]
    for asked, message in cases:
        with pytest.raises(align.UserError, match=message):
            align.train("dpo", **asked)
    with pytest.raises(align.UserError, match=r"reward\.timeout: its worker processes import functions, and lambda"):
        align.train("rloo", rewards=lambda completions, **_: [1.0] * len(completions), reward={"timeout": 1.0})
    assert not Path("runs").exists() or not any(Path("runs").iterdir())


def test_nothing_is_put_into_the_folder_of_another_run() -> None:
    Path("other").mkdir()
    Path("other/recipe.yaml").write_text("method: {name: dpo}\n")
    with pytest.raises(align.UserError, match=r"other holds a run already, and nothing is overwritten"):
        align.train("dpo", data=ROWS, training={"output_dir": "other"})
    assert [path.name for path in Path("other").iterdir()] == ["recipe.yaml"]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def _settings() -> Iterator[None]:
    """All that a run changes in its process."""
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    drawn = random.random(), np.random.random(), torch.rand(1).item()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    before = environment(), list(sys.path), list(warnings.filters)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    yield
    assert (random.random(), np.random.random(), torch.rand(1).item()) == drawn
    assert (environment(), list(sys.path), list(warnings.filters)) == before
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == handlers


@pytest.mark.usefixtures("_settings")
def test_ctrl_c_saves_and_the_process_is_as_before() -> None:
    def press(step: int, metrics: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(align.Stopped, match=r"SIGINT after step 1.*align\.Run\('runs/dpo'\)\.resume\(\)"):
        align.train("dpo", data=ROWS, training=FEW, logging=QUIET, on_step=press)
    run = align.Run("runs/dpo")
    assert (run.outcome, len(run.metrics)) == (None, 1)
    assert not run.model().training  # its checkpoint's
    assert run.resume().outcome is not None


@pytest.mark.usefixtures("_settings")
def test_who_looks_on_and_fails_ends_the_run_after_its_step_is_saved() -> None:
    with pytest.raises(align.RunError, match=r"step 1: who looks on has failed: ZeroDivisionError.*is kept"):
        align.train("dpo", data=ROWS, training=FEW, logging=QUIET, on_step=lambda step, metrics: 1 / 0)
    assert align.Run("runs/dpo").resume().outcome is not None
