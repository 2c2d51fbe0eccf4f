"""A run that fails within a step or after it loses neither the step nor what was told of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, told, train, weights

from align.cli.main import main
from align.methods.grpo import GRPO
from align.runfolder import checkpoint

FRAIL = '''
import dataclasses
from dataclasses import dataclass
from pathlib import Path

from align.methods.base import Loss
from align.methods.grpo import GRPO


@dataclass(frozen=True, kw_only=True)
class Frail(GRPO):
    """Its loss is not finite once the third experience has been judged, while there is a file named `fail`."""

    name = "frail"

    def loss(self, batch):
        found = super().loss(batch)
        if not Path("broken").exists():
            return found
        terms = {n: dataclasses.replace(t, values=t.values * float("nan")) for n, t in found.terms.items()}
        return Loss(None, **terms)


@dataclass(frozen=True, kw_only=True)
class Raising(GRPO):
    """Its hook raises once the third experience has been judged, while there is a file named `fail`."""

    name = "raising"

    hook: str = ""

    def _asked(self, hook):
        if hook == self.hook and Path("broken").exists():
            raise KeyError("a dictionary of mine")  # the line that is told

    def advantages(self, rollouts):
        self._asked("advantages")
        return super().advantages(rollouts)

    def keep(self, rollouts):
        self._asked("keep")
        return super().keep(rollouts)

    def resample(self, rollouts):
        self._asked("resample")
        return []

    def controllers(self, rollouts):
        self._asked("controllers")
        return {}

    def loss(self, batch):
        self._asked("loss")
        return super().loss(batch)


def count():
    with Path("calls").open("a") as calls:
        calls.write(".")
    return len(Path("calls").read_text())


def vowels(prompts, completions, **columns):
    if count() == 3 and Path("fail").exists():
        Path("broken").touch()
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]


def huge(prompts, completions, **columns):
    return [1.7e308 if count() == 3 and Path("fail").exists() else 1.0] * len(completions)


def in_chunks(prompts, completions, **columns):
    """Fails in its sixth call: the second chunk of what is written ahead of the second experience."""
    if count() == 6 and Path("fail").exists():
        raise ValueError("not now")
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]


def held_out(prompts, completions, **columns):
    """Fails in an evaluation, of three rows, once there have been `fail` of them."""
    if len(prompts) == 3 and Path("fail").exists() and count() > int(Path("fail").read_text()):
        raise ValueError("not now")
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]
'''
RUN = (
    "data.num_rows=40", "data.test=0", "data.validation=0", "training.eval_steps=0", "training.batch_size=4",
    "training.max_steps=5", "logging.num_completions=0", "rollout.num_generations=2", "training.save_steps=0",
    "rollout.max_completion_length=8",
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, own_module: Callable[[str, str], None]) -> Path:
    own_module("frail", FRAIL)
    return tmp_path


def failed(here: Path, *words: str, fail: str = "") -> Path:
    """A run that ends with 1 while `fail` is there, which it is no longer."""
    (here / "calls").unlink(missing_ok=True)
    (here / "fail").write_text(fail)
    assert main(["train", "grpo", *words, "training.output_dir=cut"]) == 1
    for name in ("fail", "broken"):
        (here / name).unlink(missing_ok=True)
    return here / "cut"


def test_a_failure_in_an_experiences_first_step_keeps_its_numbers(here: Path):
    words = (*RUN, "method.name=frail:Frail", "reward.functions=['frail:vowels']", "rollout.num_iterations=2")
    whole = train("grpo", here / "whole", *words)
    cut = failed(here, *words)
    assert len(lines(cut / "metrics.jsonl")) == 4
    train("grpo", cut, *words, "--resume")
    assert metrics(cut) == metrics(whole)
    assert same(weights(cut), weights(whole))


@pytest.mark.parametrize("hook", ["advantages", "keep", "resample", "controllers", "loss"])
def test_a_hook_that_raises_is_named_and_nothing_is_lost(hook: str, here: Path, capsys: pytest.CaptureFixture[str]):
    """Its class, its name, what it says and where: two experiences are learned from, and the third is written."""
    words = (*RUN, "method.name=frail:Raising", f"method.hook={hook}", "reward.functions=['frail:vowels']")
    words = (*words, "training.max_steps=3", "rollout.num_prompts=4", "rollout.record=true")
    cut = failed(here, *words)
    said = re.sub(r"\s+", " ", capsys.readouterr().err)
    line = 1 + FRAIL.splitlines().index(next(t for t in FRAIL.splitlines() if "the line that is told" in t))
    assert f"step 3: Raising.{hook}: KeyError: 'a dictionary of mine' ({here / 'frail.py'}, line {line})" in said
    assert "Traceback" not in said
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(cut / "checkpoints")] == [2]
    assert len(lines(cut / "rollouts" / "000002.jsonl")) >= 8, "what is written is there"
    train("grpo", cut, *words, "--resume")
    assert same(weights(cut), weights(train("grpo", here / "whole", *words)))


def test_a_defect_of_ours_keeps_its_traceback(here: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(self: GRPO, rollouts: object) -> object:
        raise KeyError("ours")

    monkeypatch.setattr(GRPO, "advantages", broken)
    with pytest.raises(KeyError, match="ours"):
        main(["train", "grpo", *RUN, "training.output_dir=cut"])


def test_a_number_that_cannot_be_logged_loses_no_step(here: Path, capsys: pytest.CaptureFixture[str]):
    """A reward that weighs next to nothing and whose sum overflows."""
    contains = "{name: contains, settings: {words: [a, e]}}"
    words = (*RUN, f"reward.functions=[{contains}, {{name: 'frail:huge', weight: 1.0e-307}}]")
    cut = failed(here, *words)
    assert "step 3: rewards/huge is inf; only finite numbers are logged" in capsys.readouterr().err
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(cut / "checkpoints")] == [3]
    train("grpo", cut, *words, "--resume")
    rows = lines(cut / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]
    assert ["loss" in row for row in rows] == [True] * 5


def test_what_a_failed_reward_has_left_of_the_next_experience_is_written_by_the_weights_of_then(here: Path):
    stale = ("rollout.staleness=1", "rollout.correction=truncate", "rollout.num_prompts=8", "rollout.max_rows=8")
    words = (*RUN, *stale, "training.max_steps=6", "reward.functions=['frail:in_chunks']")
    whole = train("grpo", here / "whole", *words)
    cut = failed(here, *words)
    assert checkpoint.checkpoints(cut / "checkpoints")[-1].name == "step-000002"
    train("grpo", cut, *words, "--resume")
    assert metrics(cut) == metrics(whole)
    assert same(weights(cut), weights(whole))


@pytest.mark.parametrize("fail", ["0", "1", "2"], ids=["first", "second", "last"])
def test_an_evaluation_that_failed_is_made_up_for(fail: str, here: Path, capsys: pytest.CaptureFixture[str]):
    words = (
        *RUN, "data.validation=0.2", "training.eval_steps=2", "training.max_eval_rows=3", "logging.num_completions=2",
        "reward.functions=['frail:held_out']", "optim.learning_rate=1.0e-3", "training.load_best_model_at_end=true",
        "training.metric_for_best_model=reward", "training.greater_is_better=true",
    )  # fmt: skip
    whole = train("grpo", here / "whole", *words)
    evaluated = [int(row["step"]) for row in metrics(whole) if "eval/reward" in row]
    assert evaluated == [2, 4, 5]
    cut = failed(here, *words, fail=fail)
    assert "ValueError: not now" in capsys.readouterr().err
    *before, step = metrics(whole)[: evaluated[int(fail)]]
    shown = {k: v for k, v in step.items() if not k.startswith("eval/")}
    assert metrics(cut) == [*before, shown], "the step itself is told"
    failed(here, *words, "--resume", fail="0")  # again
    assert metrics(cut) == [*before, shown]
    train("grpo", cut, *words, "--resume")
    assert metrics(cut) == metrics(whole)
    assert (cut / "completions.jsonl").read_text() == (whole / "completions.jsonl").read_text()
    assert told(cut / "outcome.json") == told(whole / "outcome.json")
    assert same(weights(cut), weights(whole))

