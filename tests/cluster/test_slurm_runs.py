"""Runs on two nodes of a real Slurm, a rank on each: what they learn is what one process learns."""

from __future__ import annotations

from pathlib import Path

import pytest
from cluster_jobs import Submit, log_of
from slurm_cluster import Cluster
from small_runs import lines, train

from align.cli.main import main

pytestmark = pytest.mark.processes
TOLERANCE = 1e-4  # of a loss: sums over ranks are rounded otherwise than those of one process
STEPS = 3
RUN = (f"training.max_steps={STEPS}", "data.validation=0", "training.batch_size=6")
WRITTEN = (
    "rollout.num_generations=2", "rollout.num_prompts=6", "rollout.max_completion_length=8", "data.num_rows=40",
    "model.critic=null",
)  # fmt: skip
WORDS = {
    "sft": ("data.num_rows=40",),
    "dpo": ("data.num_rows=40",),
    "ppo": WRITTEN,
    "scalebio": ("method.trusted_rows=3",),  # two learners over two levels
}
OF_ONE = (
    "training.num_train_epochs=null", "data.test=0", "logging.num_completions=0", "training.eval_steps=0", *RUN,
)  # fmt: skip


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in lines(out / "metrics.jsonl")]


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("sft", ()),
        ("ppo", ()),
        ("scalebio", ()),
        ("dpo", ()),
        ("dpo", ("--sharding", "zero2", "--launcher", "torchrun")),
    ],
    ids=["sft", "ppo", "scalebio", "dpo", "dpo by ZeRO-2 and torchrun"],
)
def test_two_nodes_learn_what_one_process_learns(
    recipe: str, options: tuple[str, ...], cluster: Cluster, submit: Submit, tmp_path: Path
):
    out = tmp_path / "two"
    job = submit(out, recipe, *RUN, *WORDS[recipe], *options)
    one = train(recipe, tmp_path / "one", *OF_ONE, *WORDS[recipe])
    ended = cluster.wait(job, "COMPLETED", "FAILED")
    assert ended["JobState"] == "COMPLETED", log_of(out, job)
    assert losses(out) == pytest.approx(losses(one), abs=TOLERANCE)
    assert len(losses(out)) == STEPS
    assert (out / "final/model.safetensors").exists()
    assert "preflight: 2 ranks on 2 nodes, nothing wrong" in log_of(out, job)


def test_an_array_is_a_run_for_each_seed(
    cluster: Cluster, submit: Submit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "seeds"
    words = ("training.max_steps=2", f"training.output_dir={out}", "--time", "20")
    assert main(["launch", "slurm", "sft", *words, "--after", "99999"]) == 2
    assert "--after 99999: Slurm knows no such job; leave the option out" in capsys.readouterr().err
    assert not out.exists()
    job = submit(out, "sft", *RUN, *WORDS["sft"], "--array", "3,5")
    for task in ("3", "5"):
        cluster.wait(f"{job}_{task}", "COMPLETED")
    one, other = (losses(out / f"seed-{seed}") for seed in (3, 5))
    assert len(one) == len(other) == STEPS
    assert one != other  # the rows come in another order
