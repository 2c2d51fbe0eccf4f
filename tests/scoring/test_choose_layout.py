"""What the check of layouts allows in a precision that rounds much, and whom a row may share a micro-batch with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from families import EAGER_ONLY, VOCABULARY, BooleanMasks, broken_by_forgotten_window, family
from small_runs import BRIEF, run, write_recipe, write_rows
from tiny_models import PLAIN
from torch import nn
from transformers import AutoModelForCausalLM

from align.cli.main import main
from align.models.sources import resolve
from align.scoring.choose_layout import measured
from align.scoring.layout import Rows
from align.scoring.probe import Probe
from align.scoring.score import Kernel, Scorer

BF16 = torch.bfloat16
LONGROPE = {
    "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 32, "factor": 4.0,
        "short_factor": [1.0] * 4, "long_factor": [4.0] * 4,
    },
    "original_max_position_embeddings": 32, "max_position_embeddings": 128, "sliding_window": None,
}  # fmt: skip
DYNAMIC = {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}, "max_position_embeddings": 32}


def asked(precision: torch.dtype = torch.float32, column: str = "logps", shortest: int = 2, longest: int = 0) -> Probe:
    return Probe(VOCABULARY, column, precision, torch.device("cpu"), shortest=shortest, longest=longest)


def halved(scorer: Scorer, how: str) -> Scorer:
    """In bfloat16: by autocast, or with weights of that precision."""
    if how == "autocast":
        scorer.kernel = dataclasses.replace(scorer.kernel, autocast=BF16)
    else:
        scorer.bfloat16()
    return scorer


# ---- rounding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "how"), [("qwen2", "autocast"), ("gemma2", "weights"), ("mixtral", "weights")])
def test_in_bfloat16_every_layout_of_a_right_model_is_right(name: str, how: str):
    scorer = halved(family(name, "eager" if name in EAGER_ONLY else "sdpa"), how)
    assert set(measured(scorer, scorer, asked(BF16, longest=40)).values()) == {""}


def test_in_bfloat16_scores_are_judged_by_their_own_size():
    scorer = halved(family("llama", "sdpa", "scalar"), "autocast")
    scorer.model.score.weight.data.mul_(1e-3)
    assert set(measured(scorer, scorer, asked(BF16, "scores", longest=40)).values()) == {""}


@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_in_bfloat16_a_trained_model_is_right(how: str):
    """Of random tokens, which it finds all but impossible, rounding moves the log-probabilities farther."""
    model = AutoModelForCausalLM.from_pretrained(resolve("asset:stories260k")).eval()
    scorer = halved(Scorer(model, Kernel("sdpa")), how)
    probe = dataclasses.replace(asked(BF16, longest=60), vocab_size=model.config.vocab_size)
    assert set(measured(scorer, scorer, probe).values()) == {""}


class Moved(Scorer):
    """In packed and shared rows completions stand a position too far from their prompt."""

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        inputs = super()._inputs(rows)
        if rows.tree is not None:
            assert rows.branch is not None
            inputs["position_ids"] = rows.position_ids + (rows.branch > 0).long()
        return inputs


class Open(Scorer):
    """In packed and shared rows everybody sees what stands before, neighbours too."""

    def _inputs(self, rows: Rows) -> dict[str, Any]:
        inputs = super()._inputs(rows)
        if rows.tree is not None:
            inputs["attention_mask"] = torch.ones_like(inputs["attention_mask"]).tril()
        return inputs


@pytest.mark.parametrize("broken", [BooleanMasks, Moved, Open])
@pytest.mark.parametrize("how", ["autocast", "weights"])
def test_in_bfloat16_what_is_wrong_still_shows(broken: type[Scorer], how: str):
    good = family("llama", "eager" if broken is BooleanMasks else "sdpa")
    scorer = halved(broken(good.model, good.kernel), how)
    found = measured(scorer, scorer, asked(BF16))
    assert found["padded"] == ""
    assert "logps differ by" in found["packed"]
    assert "logps differ by" in found["shared"]


def test_in_bfloat16_a_forgotten_window_still_shows():
    scorer = halved(broken_by_forgotten_window("mistral"), "weights")
    found = measured(scorer, scorer, asked(BF16))
    assert found["padded"] == ""
    assert "differ" in found["packed"]
    assert "differ" in found["shared"]


def test_in_bfloat16_a_trained_model_that_is_wrong_still_shows():
    model = AutoModelForCausalLM.from_pretrained(resolve("asset:stories260k")).eval()
    scorer = halved(Moved(model, Kernel("sdpa")), "weights")
    found = measured(scorer, scorer, dataclasses.replace(asked(BF16), vocab_size=model.config.vocab_size))
    assert found["padded"] == ""
    assert "differ" in found["packed"]
    assert "differ" in found["shared"]


# ---- neighbours -----------------------------------------------------------------------------------------------------


def test_a_rope_that_the_longest_row_decides_is_found_with_the_length_up_to_which_it_does_not():
    scorer = family("phi3", "sdpa", **LONGROPE)
    found = measured(scorer, scorer, asked(shortest=20, longest=60))
    assert "logps differ by" in found["padded"]
    assert "not so up to 32 tokens: set data.max_length=32" in found["padded"]
    assert found["packed"]
    assert found["shared"]


@pytest.mark.parametrize(("shortest", "longest"), [(20, 32), (33, 60)])
def test_rows_on_one_side_of_the_border_are_right(shortest: int, longest: int):
    scorer = family("phi3", "sdpa", **LONGROPE)
    assert set(measured(scorer, scorer, asked(shortest=shortest, longest=longest)).values()) == {""}


def test_in_bfloat16_the_border_is_found_too():
    scorer = halved(family("phi3", "sdpa", **LONGROPE), "weights")
    assert "not so up to 32 tokens" in measured(scorer, scorer, asked(BF16, shortest=20, longest=36))["padded"]


@pytest.mark.parametrize(("shortest", "reason"), [(20, "not so up to 32 tokens"), (40, "has read before")])
def test_a_rope_that_remembers_the_longest_row_is_found(shortest: int, reason: str):
    scorer = family("llama", "sdpa", **DYNAMIC)
    assert reason in measured(scorer, scorer, asked(shortest=shortest, longest=60))["padded"]


@pytest.mark.parametrize("precision", [torch.float32, BF16])
def test_a_norm_over_the_whole_batch_is_found(precision: torch.dtype):
    class Common(nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            return hidden / hidden.std()

    scorer = family("llama", "sdpa")
    scorer.model.model.norm = Common()
    if precision is BF16:
        halved(scorer, "autocast")
    assert "logps differ by" in measured(scorer, scorer, asked(precision))["padded"]


@pytest.mark.parametrize("precision", [torch.float32, BF16])
def test_experts_with_room_for_so_many_tokens_are_found(precision: torch.dtype):
    class Crowded(nn.Module):
        """Half of the tokens of a batch, those that want it most, pass through; the others go round it."""

        def __init__(self, inner: nn.Module):
            super().__init__()
            self.inner = inner

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            want = hidden.sum(-1)
            admitted = want >= want.flatten().median()
            return torch.where(admitted[..., None], self.inner(hidden), 0 * hidden)

    scorer = family("llama", "sdpa")
    for layer in scorer.model.model.layers:
        layer.mlp = Crowded(layer.mlp)
    if precision is BF16:
        halved(scorer, "autocast")
    assert "logps differ by" in measured(scorer, scorer, asked(precision))["padded"]


def test_a_run_whose_rows_would_depend_on_each_other_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Whether the first rows show it or not: the longest is the last."""
    short, long = "ab", "So they went on, and on, and on, and on, and on. " * 2
    rows = [{"prompt": f"Hi {i}.", "chosen": f" {short} {i}", "rejected": f" {short}, {i}!"} for i in range(70)]
    rows.append({"prompt": "Hi.", "chosen": long, "rejected": short})
    recipe = {
        "method": {"name": "dpo"},
        "model": {"config": {"model_type": "phi3", **PLAIN, **LONGROPE}, "tokenizer_name_or_path": "asset:stories260k"},
        "data": {"train": write_rows(tmp_path / "rows.jsonl", rows)},
        "training": {"batch_size": 4, "max_steps": 1},
        "logging": BRIEF,
    }
    path = write_recipe(tmp_path / "dpo.yaml", recipe)
    assert main(["train", str(path), f"training.output_dir={tmp_path / 'run'}"]) == 2
    assert "set data.max_length=32" in capsys.readouterr().err
    run(tmp_path / "short", recipe, "data.max_length=32", "data.overlong=drop")


def test_what_a_policy_may_write_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = {
        "method": {"name": "rloo"},
        "model": {"config": {"model_type": "phi3", **PLAIN, **LONGROPE}, "tokenizer_name_or_path": "asset:stories260k"},
        "data": {"train": write_rows(tmp_path / "rows.jsonl", [{"prompt": f"Hi {i}."} for i in range(20)])},
        "training": {"batch_size": 4, "max_steps": 1},
        "rollout": {"max_completion_length": 40, "num_generations": 2},
        "reward": {"functions": [{"name": "contains", "settings": {"words": ["a"]}}]},
        "logging": BRIEF,
    }
    path = write_recipe(tmp_path / "rloo.yaml", recipe)
    assert main(["train", str(path), f"training.output_dir={tmp_path / 'run'}"]) == 2
    assert "set data.max_length=32 (less rollout.max_completion_length" in capsys.readouterr().err
    run(tmp_path / "short", recipe, "rollout.max_completion_length=16")
