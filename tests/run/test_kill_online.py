"""kill -9 while a policy writes, is judged, or learns in the middle of an experience: the run ends bitwise the same."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kills import assert_same_run, begin, ended, kill, lines, wait_for

STEPS = 16
LASTING = 4  # two passes over two minibatches
REWARD = '''
import os, time
from pathlib import Path

def vowels(prompts, completions, **columns):
    """Slow enough to be killed in."""
    marker = Path(os.environ["JUDGING"])
    marker.write_text("")
    time.sleep(0.02)
    found = [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]
    marker.unlink()
    return found
'''
RECIPE = """
method: {name: ppo, kl_target: 3.0, kl_horizon: 50.0}
model: {model_name_or_path: "asset:stories260k"}
data: {train: "asset:story_openings/train.jsonl", validation: 0.1, num_rows: 60, max_length: 64}
rollout: {num_generations: 2, num_prompts: 8, num_iterations: 2, max_completion_length: 10, max_rows: 4}
reward: {functions: ["slow_reward:vowels"]}
optim: {learning_rate: 1.0e-3, lr_scheduler_type: linear, warmup_steps: 3}
training: {batch_size: 4, max_steps: 16, save_steps: 1, eval_steps: 8, max_eval_rows: 4, max_tokens: 200,
           load_best_model_at_end: true}
logging: {num_completions: 2, max_completion_length: 8}
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "slow_reward.py").write_text(REWARD)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    before = Path.cwd()
    os.chdir(folder)  # where the recipe's reward is found
    os.environ["JUDGING"] = str(folder / "judging")
    try:
        assert ended(begin(recipe, folder / "run")) == 0
    finally:
        os.chdir(before)
    return recipe, folder / "run"


def written(out: Path, number: int) -> int:
    return len(lines(out / "rollouts" / f"{number:06d}.jsonl"))


def instants(out: Path, judging: Path) -> list[Callable[[], bool]]:
    """In every part of an experience: between two chunks, in a reward, between minibatches, in the second pass."""

    def steps(n: int) -> Callable[[], bool]:
        return lambda: len(lines(out / "metrics.jsonl")) >= n

    found: list[Callable[[], bool]] = [lambda: written(out, 0) >= 4, judging.exists, steps(1), steps(LASTING - 1)]
    for number in (1, 2):
        found += [lambda p=number: written(out, p) >= 8, steps(number * LASTING + 1), steps((number + 1) * LASTING)]
    return found


def test_ten_kills_leave_no_trace(uninterrupted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe, whole = uninterrupted
    out = tmp_path / "run"
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setenv("JUDGING", str(tmp_path / "judging"))
    draw = random.Random(11)
    signs = instants(out, tmp_path / "judging")
    assert len(signs) == 10
    child = begin(recipe, out)
    for sign in signs:
        assert wait_for(child, sign), f"ended before it was killed: {out.with_suffix('.log').read_text()[-2000:]}"
        time.sleep(draw.uniform(0.0, 0.01))
        kill(child)
        child = begin(recipe, out, "--resume")
    assert ended(child) == 0
    assert_same_run(out, whole, STEPS)


def test_sigterm_in_the_middle_of_an_experience_saves_it(
    uninterrupted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe, whole = uninterrupted
    out = tmp_path / "run"
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setenv("JUDGING", str(tmp_path / "judging"))
    child = begin(recipe, out, "training.save_steps=0")
    assert wait_for(child, lambda: len(lines(out / "metrics.jsonl")) >= 5)
    os.kill(child, signal.SIGTERM)
    assert ended(child) == 75
    done = len(lines(out / "metrics.jsonl"))
    saved = out / "checkpoints" / f"step-{done:06d}"
    assert (saved / "experience.pt").exists() == bool(done % LASTING)
    assert ended(begin(recipe, out, "--resume", "training.save_steps=0")) == 0
    assert_same_run(out, whole, STEPS)


def test_a_signal_to_every_process_of_the_run_changes_no_verdict(
    uninterrupted: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As Ctrl-C and a scheduler send it, while a worker judges: it is not the reward that is to blame."""
    recipe, whole = uninterrupted
    out, judging = tmp_path / "run", tmp_path / "judging"
    monkeypatch.chdir(recipe.parent)
    monkeypatch.setenv("JUDGING", str(judging))
    words = ("training.save_steps=0", "reward.timeout=60", "reward.num_workers=1", "reward.on_error=mark")
    child = begin(recipe, out, *words)
    for number, steps in ((signal.SIGTERM, 1), (signal.SIGINT, 5)):
        os.setpgid(child, child)
        assert wait_for(child, lambda n=steps: len(lines(out / "metrics.jsonl")) >= n and judging.exists())
        os.killpg(child, number)
        assert ended(child) == 75, out.with_suffix(".log").read_text()
        child = begin(recipe, out, *words, "--resume")
    assert ended(child) == 0
    assert_same_run(out, whole, STEPS)
