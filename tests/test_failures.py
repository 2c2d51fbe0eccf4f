"""A run that fails within a step or after it loses neither the step nor what was told of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, train, weights

from align.cli import main
from align.training import checkpoint

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
'''
RUN = (
    "data.num_rows=40", "data.test=0", "data.validation=0", "training.eval_steps=0", "training.batch_size=4",
    "training.max_steps=5", "logging.num_completions=0", "rollout.num_generations=2", "training.save_steps=0",
    "rollout.max_completion_length=8",
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "frail.py").write_text(FRAIL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "frail", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def failed(here: Path, *words: str) -> Path:
    """A run that ends with 1 while `fail` is there, which it is no longer."""
    (here / "calls").unlink(missing_ok=True)
    (here / "fail").touch()
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


def test_a_number_that_cannot_be_logged_loses_no_step(here: Path, capsys: pytest.CaptureFixture[str]):
    """A reward that weighs next to nothing and whose sum overflows."""
    contains = "{name: contains, settings: {words: [a, e]}}"
    words = (*RUN, f"reward.functions=[{contains}, {{name: 'frail:huge', weight: 1.0e-307}}]")
    cut = failed(here, *words)
    assert "step 3: rewards/huge is inf; only finite numbers are logged" in capsys.readouterr().err
    assert [checkpoint.step_of(p) for p in checkpoint.checkpoints(cut / "checkpoints")] == [3]
    train("grpo", cut, *words, "--resume")
    told = lines(cut / "metrics.jsonl")
    assert [row["step"] for row in told] == [1, 2, 3, 4, 5]
    assert ["loss" in row for row in told] == [True] * 5
