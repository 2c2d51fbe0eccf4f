"""Metrics say themselves which way is better, what they are called and how they are drawn."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import method_batches as batches
import pytest
from small_runs import BRIEF, FRESH, metrics, run, told, write_recipe, write_rows

from align.cli.main import main
from align.methods.base import find_method, method_names
from align.methods.metrics import TABLE, About, about, as_text, from_text, of_term
from align.recipe.load import load_recipe
from align.report.findings import findings
from align.report.folder import read_run
from align.report.page import page
from align.training.step import about_of

WISHFUL = '''
"""Learns to imitate what it is evaluated on worse and worse."""
from dataclasses import dataclass
from align.batches import Demonstrations, Sequences
from align.methods.base import Loss, OfflineMethod, Term, metric
from align.methods.metrics import About

@dataclass(frozen=True, kw_only=True)
class Wishful(OfflineMethod[Demonstrations[Sequences]]):
    name = "wishful"
    paper = ""

    def loss(self, batch):
        tokens = batch.completion
        said = metric(-tokens.logps, tokens.mask, About("smaller", "Surprise", "nats", zero=True))
        return Loss(preference=Term(-tokens.logps, tokens.mask), surprise=said, shrug=metric(tokens.logps, tokens.mask))
'''


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Held-out rows that training unlearns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    (tmp_path / "wishful.py").write_text(WISHFUL)
    rows = [{"prompt": f"Say {n}.", "completion": f"Please, {n}, may I?"} for n in ("Ann", "Ben", "Cleo", "Dan")]
    unlike = [{"prompt": row["prompt"], "completion": "xq zv xq!"} for row in rows]
    data = {"train": write_rows(Path("rows.jsonl"), rows), "validation": write_rows(Path("unlike.jsonl"), unlike)}
    training = {"batch_size": 4, "max_steps": 4, "eval_steps": 1, "load_best_model_at_end": True}
    return {
        "method": {"name": "wishful:Wishful"}, "model": FRESH, "data": data, "training": training,
        "optim": {"learning_rate": 2e-2, "lr_scheduler_type": "constant"}, "logging": BRIEF,
    }  # fmt: skip


@pytest.mark.parametrize("metric", ["preference", "surprise"])
def test_what_is_minimised_or_said_to_be_is_better_when_smaller(metric: str, recipe: dict[str, Any], tmp_path: Path):
    patience = {"early_stopping_patience": 2, "metric_for_best_model": metric}
    recipe["training"] |= patience if metric == "preference" else {"metric_for_best_model": metric, "max_steps": 2}
    out = run(tmp_path / "out", recipe)
    held_out = {int(row["step"]): row[f"eval/{metric}"] for row in metrics(out)}
    assert min(held_out, key=lambda step: held_out[step]) == told(out / "outcome.json")["final_step"]
    assert len(set(held_out.values())) > 1
    assert told(out / "about_metrics.json") == {
        "preference": {"better": "smaller"},
        "surprise": {"better": "smaller", "label": "Surprise", "unit": "nats", "zero": True},
    }
    report = read_run(out)
    assert "<b>Surprise, nats</b>" in page([report])
    if told(out / "outcome.json")["ended_early"]:
        best = f"at step {told(out / 'outcome.json')['best_step']}"
        assert any("did not improve on" in f.text and best in f.text for f in findings(report))


def test_what_is_neither_must_be_said(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]):
    recipe["training"]["metric_for_best_model"] = "shrug"
    assert main(["train", str(write_recipe(Path("r.yaml"), recipe)), "training.output_dir=out"]) == 2
    assert "training.greater_is_better: missing; shrug is not declared" in capsys.readouterr().err
    assert main(["check", "sft", "training.metric_for_best_model=entropy"]) == 2
    assert "training.greater_is_better: missing; entropy is not declared" in capsys.readouterr().err
    words = ["training.metric_for_best_model=entropy", "training.greater_is_better=true"]
    assert load_recipe("sft", words).training.greater_is_better is True


@pytest.mark.parametrize("name", method_names())
def test_the_table_knows_what_our_methods_report(name: str):
    method = find_method(name)()
    batch = batches.build(method.needs(), batches.random_tensors(method.needs(), 7, 5))
    loss = method.loss(batches.ready(method, batch))
    unknown = [n for n, term in loss.terms.items() if about(n) == About() and n not in TABLE and not term.weight]
    assert not unknown
    assert not about_of(loss), "what a name says is what the term is"


def test_declarations():
    assert about("eval/rejected_logps").better == "smaller"
    assert about("before/eval/loss").better == "smaller"
    assert about("rewards/loss").better == "larger", "a reward function may be called like a metric"
    assert about("bag_of_words_accuracy").share
    assert about("margin", {"margin": About("smaller")}).better == "smaller"
    assert of_term("margin", 1.0, None).better == "smaller"
    assert of_term("margin", -1.0, None).better == "larger"
    assert of_term("margin", 1.0, About(label="Margin", better="larger")).better == "larger"
    assert from_text({"a": as_text(About("smaller", zero=True)), "b": 3, "c": {"zero": "yes", "better": "larger"}}) == {
        "a": About("smaller", zero=True),
        "b": About(),
        "c": About("larger"),
    }
