"""No tensor is left behind on the CPU: on another device every method makes its steps, and whole runs are the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_of_steps import random_groups, rig
from elsewhere import DEVICE, elsewhere
from small_runs import gap, metrics, same, train, weights

from align.methods.base import find_method, method_names

RUN = (
    "data.num_rows=30", "training.num_train_epochs=null", "training.max_steps=2", "training.eval_steps=1",
    "training.batch_size=4", "training.max_eval_rows=4", "training.save_steps=1", "training.layout=padded",
    "logging.num_completions=2", "logging.max_completion_length=6", "optim.optim_args={fused: false}",
    "rollout.num_prompts=4", "rollout.num_generations=2", "rollout.max_completion_length=6",
)  # fmt: skip


def test_what_a_gpu_would_refuse_is_refused():
    with elsewhere():
        near, far = torch.ones(3), torch.ones(3, device=DEVICE)
        with pytest.raises(RuntimeError, match="add: tensors of two devices"):
            near + far
        with pytest.raises(RuntimeError, match="index_select: tensors of two devices"):
            far.index_select(0, torch.zeros(1, dtype=torch.int64))
        with pytest.raises(TypeError, match="no numpy array"):
            far.numpy()
        assert (far + torch.tensor(1.0)).tolist() == [2.0, 2.0, 2.0]  # one number may come from anywhere
        assert (far.cpu() + near).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("name", method_names())
def test_a_step_elsewhere_is_the_step_here(name: str):
    method = find_method(name)()
    groups = random_groups(method, 5)
    here = rig(method, "shared").step(groups, rate=1e-3)
    with elsewhere():
        bench = rig(method, "shared")
        for module in (bench.trainee.module, *(role.model for role in bench.roles.values())):
            module.to(DEVICE)
        there = bench.step(groups, rate=1e-3)
        assert all(p.device == DEVICE for p in bench.trainee.module.parameters())
    assert there.metrics == pytest.approx(here.metrics, rel=1e-4, abs=1e-6)  # attention's kernel is another one
    assert there.grad_norm == pytest.approx(here.grad_norm, rel=1e-4)


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")  # which these are not
def test_a_run_elsewhere_is_the_run_here(tmp_path: Path):
    """From loading to the report: probes, evaluations, completions, a critic of its own, checkpoints."""
    here = train("ppo", tmp_path / "here", *RUN)
    with elsewhere():
        there = train("ppo", tmp_path / "there", *RUN)
    for one, other in zip(metrics(here), metrics(there), strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-4)
    assert gap(weights(here), weights(there)) < 1e-4
    before = weights(there)
    with elsewhere():
        train("ppo", there, *RUN, "--resume", str(there / "checkpoints/step-000001"))
    assert same(weights(there), before)
