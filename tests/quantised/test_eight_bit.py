"""Optimisers whose moments have 8 bits, on the CPU: bitsandbytes itself, in whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mistakes import RECIPE, dump, pairs
from safetensors.torch import load_file
from torch import nn

from align.cli.main import main
from align.training.optim import EIGHT_BIT, make_optimizer
from align.training.settings import OptimSection

STEPS = "max_steps: 2, layout: padded, save_steps: 1", "max_steps: 4, save_steps: 2"
RUN = RECIPE.replace("1.0e-4", "1.0e-3").replace(*STEPS)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dump("rows.jsonl", *pairs(8))
    Path("mine.yaml").write_text(RUN)


def losses(run: str) -> list[float]:
    return [json.loads(line)["loss"] for line in Path(run, "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", EIGHT_BIT)
def test_moments_have_eight_bits(name: str):
    layer = nn.Linear(128, 128)
    optimizer = make_optimizer(layer, OptimSection(optim=name, learning_rate=1e-3))
    layer(torch.ones(2, 128)).sum().backward()
    before = layer.weight.detach().clone()
    optimizer.step()
    assert optimizer.state[layer.weight]["state1"].dtype == torch.uint8
    step = (layer.weight - before).abs()
    torch.testing.assert_close(step, torch.full_like(step, 1e-3), rtol=0.02, atol=0)  # the first is the rate itself


def test_a_run_learns_as_with_wide_moments_and_resumes_bit_for_bit():
    """Every gradient of the first step has the same sign and size; later ones differ by what 8 bits round."""
    assert main(["train", "mine.yaml", "optim.optim=AdamW8bit"]) == 0
    assert main(["train", "mine.yaml", "training.output_dir=wide"]) == 0
    assert losses("run")[:2] == pytest.approx(losses("wide")[:2], abs=1e-4)
    assert losses("run") == pytest.approx(losses("wide"), abs=0.02)
    assert losses("run") != losses("wide")
    again = ["train", "mine.yaml", "optim.optim=AdamW8bit", "training.output_dir=other"]
    assert main([*again, "--resume", "run/checkpoints/step-000002"]) == 0
    one, other = (load_file(f"{run}/final/model.safetensors") for run in ("run", "other"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_shards_is_refused_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]):
    for sharding in ("zero2", "fsdp2"):
        assert main(["check", "mine.yaml", "optim.optim=AdamW8bit", "--sharding", sharding]) == 2
        assert "AdamW8bit keeps its numbers in blocks of whole parameters" in capsys.readouterr().err
    assert main(["check", "mine.yaml", "optim.optim=AdamW8bit", "optim.optim_args={betta: 1}"]) == 2
    assert "optim.optim_args: AdamW8bit does not take these" in capsys.readouterr().err
