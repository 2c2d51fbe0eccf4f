"""A method that is not of this package takes one file and one recipe, and nothing else."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from small_runs import BRIEF, FRESH, metrics, run, train, weights, write_recipe

from align.cli.main import main

LINEAR = '''"""Linear preference: the plain difference of log-ratios, clipped.

Metrics: `accuracy` share of pairs in the right order.
"""

from __future__ import annotations

from dataclasses import dataclass

from align.batches import Pairs, Referenced
from align.functional.preference import log_ratio
from align.methods.base import Loss, OfflineMethod


@dataclass(frozen=True, kw_only=True)
class Linear(OfflineMethod[Pairs[Referenced]]):
    name = "linear"
    paper = "made up"

    ceiling: float = 2.0  # a pair that is won by more teaches nothing

    def loss(self, batch: Pairs[Referenced]) -> Loss:
        chosen, rejected = batch.chosen, batch.rejected
        gap = log_ratio(chosen.logps, chosen.ref_logps, chosen.mask)
        gap = gap - log_ratio(rejected.logps, rejected.ref_logps, rejected.mask)
        return Loss(-gap.clamp(max=self.ceiling)).report({"accuracy": (gap > 0).float()})
'''

SURE = '''"""Sure imitation: tokens weigh by how sure the policy was before the step, certain ones not at all."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from align.batches import Batch, Sequences, from_row, prepared
from align.methods.base import Loss, OfflineMethod, Term, metric


@dataclass(frozen=True, kw_only=True)
class Remembered(Sequences):
    """A column set of our own: the policy before the step, the entropy now."""

    old_logps: Float[Tensor, "B T"]
    entropies: Float[Tensor, "B T"]


@dataclass(frozen=True, kw_only=True)
class Weighted(Batch):
    kind = "demonstrations"

    completion: Remembered
    importance: Float[Tensor, " B"] = from_row("importance", default=1.0)
    share: Float[Tensor, " B"] = prepared()


@dataclass(frozen=True, kw_only=True)
class Sure(OfflineMethod[Weighted]):
    name = "sure"
    paper = ""

    certain: float = 0.99

    def prepare(self, batch: Weighted) -> Weighted:
        import dataclasses

        return dataclasses.replace(batch, share=batch.importance / batch.importance.mean())

    def loss(self, batch: Weighted) -> Loss:
        c = batch.completion
        sure = c.old_logps.exp()
        kept = c.mask & (sure < self.certain)
        imitation = Term(-batch.share[:, None] * sure * c.logps, kept)
        drift = (c.logps - c.old_logps).detach().abs()
        entropy = metric(c.entropies, c.mask)
        return Loss(imitation=imitation, drift=metric(drift, c.mask), entropy=entropy)
'''
DATA = {
    "train": "asset:polite_pairs/train.jsonl", "num_rows": 24, "validation": 0.2, "bad_rows": "drop",
    "max_length": 512, "columns": {"prompt": "{instruction}\n{input}"},
}  # fmt: skip
TRAINING = {"batch_size": 6, "max_steps": 2}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, outside of the checkout; Python imports from it as far as `align` sees to that."""
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place])
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (
            ("class Linear(", "class Linear"),
            "method.name: method our_linear:Linear: SyntaxError on importing our_linear",
        ),
        (("return Loss(-gap", "return (-gap"), "method our_linear:Linear: AttributeError on the first rows"),
        ((".report({", ".terms or ({"), "method our_linear:Linear: loss returned dict, not align.methods.base.Loss"),
        (("batch.chosen, batch.rejected", "batch.chosen, batch.worse"), "has no attribute 'worse'"),
    ],
)
def test_a_mistake_in_it_is_told_like_any_other(
    outside: Path, capsys: pytest.CaptureFixture[str], mistake: tuple[str, str], said: str
):
    (outside / "our_linear.py").write_text(LINEAR.replace(*mistake))
    sys.modules.pop("our_linear", None)
    recipe = {"method": {"name": "our_linear:Linear"}, "model": FRESH, "data": DATA, "training": TRAINING}
    assert main(["train", str(write_recipe(outside / "r.yaml", recipe))]) == 2
    assert said in capsys.readouterr().err
    sys.modules.pop("our_linear", None)


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        (('    name = "linear"\n', ""), "Linear has no name; write `name = ...` in the class"),
        (("@dataclass(frozen=True, kw_only=True)\n", ""), "ceiling: no knob yet, since Linear is no dataclass"),
        (("ceiling: float =", "ceiling ="), "It is in Linear, without an annotation: write `ceiling: float = 2.0`"),
        (("OfflineMethod[Pairs[Referenced]]", "OfflineMethod"), "write class Linear(OfflineMethod[Pairs[Referenced]])"),
        (("[Pairs[Referenced]]", "[Pairs[Loss]]"), "Pairs.chosen is Loss; expected a subclass of align.batches.Member"),
        (("-gap.clamp(max=self.ceiling)", "-gap.mean()"), "term loss is one number; give (B,) or (B, T)"),
    ],
)
def test_what_its_class_lacks_is_told(
    outside: Path, capsys: pytest.CaptureFixture[str], mistake: tuple[str, str], said: str
):
    assert mistake[0] in LINEAR
    (outside / "our_half.py").write_text(LINEAR.replace(*mistake))
    sys.modules.pop("our_half", None)
    recipe = {"method": {"name": "our_half:Linear", "ceiling": 1.5}, "model": FRESH, "data": DATA}
    assert main(["train", str(write_recipe(outside / "r.yaml", {**recipe, "training": TRAINING}))]) == 2
    assert said in capsys.readouterr().err
    sys.modules.pop("our_half", None)


def test_a_method_over_known_columns(outside: Path, capsys: pytest.CaptureFixture[str]):
    (outside / "our_linear.py").write_text(LINEAR)
    recipe = {"method": {"name": "our_linear:Linear", "ceiling": 1.5}, "model": FRESH, "data": DATA}
    out = run(outside / "run", {**recipe, "optim": {"learning_rate": 1e-3}, "training": TRAINING, "logging": BRIEF})
    logged = metrics(out)
    assert abs(logged[0]["loss"]) < 1e-6  # policy and reference are the same weights, so every difference is 0
    assert logged[1]["loss"] < 0
    assert "eval/accuracy_stderr" in logged[1]
    again = train(out, outside / "again")
    assert all(torch.equal(a, b) for a, b in zip(weights(out).values(), weights(again).values(), strict=True))
    capsys.readouterr()
    assert main(["methods", "our_linear:Linear"]) == 0
    page = capsys.readouterr().out
    for words in (
        "Linear preference: the plain difference",
        "rows: pairs",
        "reference",
        "method.ceiling",
        "default 2.0",
    ):
        assert words in page


def test_a_method_with_columns_of_its_own(outside: Path, capsys: pytest.CaptureFixture[str]):
    (outside / "our_sure.py").write_text(SURE)
    data = {**DATA, "columns": {**DATA["columns"], "completion": "chosen"}}
    recipe = {"method": {"name": "our_sure:Sure"}, "model": FRESH, "data": data, "training": TRAINING, "logging": BRIEF}
    out = run(outside / "run", {**recipe, "optim": {"learning_rate": 1e-3}})
    for line in metrics(out):
        assert line["drift"] < 1e-5  # the stored column is the policy before this very step
        assert line["imitation"] > 0
        assert 0 < line["entropy"] < 6.3  # ln 512 = 6.24 nats
        assert line["loss"] == pytest.approx(line["imitation"])
    capsys.readouterr()
    assert main(["methods", "our_sure:Sure"]) == 0
    assert "old_logps" in capsys.readouterr().out


def test_mistakes_in_its_recipe_are_told_like_any_other(outside: Path, capsys: pytest.CaptureFixture[str]):
    (outside / "our_other.py").write_text(LINEAR)
    recipe = {"model": FRESH, "data": DATA}
    path = write_recipe(outside / "r.yaml", {**recipe, "method": {"name": "our_other:Linear", "cieling": 1}})
    assert main(["check", str(path)]) == 2
    assert "method.cieling: no such key; linear has ceiling. Did you mean ceiling?" in capsys.readouterr().err
    for name, finding in (("our_other:Linaer", "has no attribute"), ("nowhere:Linear", "No module named")):
        path = write_recipe(outside / "r.yaml", {**recipe, "method": {"name": name}})
        assert main(["check", str(path)]) == 2
        assert finding in capsys.readouterr().err
    (outside / "our_function.py").write_text("def Linear():\n    pass\n")
    path = write_recipe(outside / "r.yaml", {**recipe, "method": {"name": "our_function:Linear"}})
    assert main(["check", str(path)]) == 2
    assert "is not a subclass of" in capsys.readouterr().err
