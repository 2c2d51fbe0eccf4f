"""Two processes, sharded in each way, do what one process does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from launches import FSDP2, LEFT_OUT, MODES, STEPS_OF, Launch

from align.errors import UserError
from align.world.distributed import join

pytestmark = pytest.mark.processes

CURVES = ("sft", "reward_model", "dpo", "kto", "dpo_cached", "tgdpo", "lora", "fewer", "experts", "psft", "scalebio",
          "scalebio_lora")  # fmt: skip
BY_MODE = pytest.mark.parametrize(
    ("launch", "name"), [(m, n) for m in MODES for n in CURVES if n not in LEFT_OUT.get(m, ())], indirect=["launch"]
)
ALIKE = [  # jobs that are fully sharded, too
    name for job in FSDP2 if "across" not in job and "rollout.record" not in str(job)
    if "masters" not in (name := job["name"].removeprefix("fsdp2_"))
]
BY_MASTERS = [("ddp", "masters"), ("zero2", "masters"), ("ddp", "fsdp2_masters")]
OF_TIME = ("tokens_per_second", "memory_mb")


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in OF_TIME} for row in rows]


def test_the_world_is_the_one_that_was_asked_for(launch, mode):
    for rank, note in enumerate(n["world"] for n in launch.notes):
        assert (note["size"], note["rank"], note["sharding"]) == (2, rank, mode)
        assert note["sum"] == [2.0, 1.0]
        assert note["any"] == [True, False]
        assert note["everyone"] == ["rank 0", "rank 1"]


def test_nothing_is_compiled(launch):
    """DeepSpeed would, under a lock that outlives a process which is killed."""
    assert not (launch.folder / "built").exists()


def test_a_launch_that_did_not_come_true_is_refused(launch):
    for note in (n["world"] for n in launch.notes):
        assert note["world_size"].startswith("UserError: world size: the launcher asked for 3, accelerate sees 2")
        assert "fsdp2 was asked for" in note["sharding_refused"]


def test_two_ranks_with_different_data_stop_together(launch):
    for note in (n["world"] for n in launch.notes):
        assert note["differing"].startswith(
            "UserError: the data differs between the processes: rank 0: of rank 0; rank 1"
        )


def test_a_mistake_on_the_main_process_stops_the_other_quietly(launch):
    told, quiet = (n["world"]["first"] for n in launch.notes)
    assert told == "UserError: the file is not there"
    assert quiet == "Elsewhere: the file is not there"


def assert_same_training(ours: Launch, theirs: Launch, name: str, prefix: str = "") -> None:
    rows, others = ours.rows(prefix + name), theirs.rows(name)
    assert len(rows) == len(others) == STEPS_OF[name]
    for row, other in zip(rows, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert row["num_tokens"] == other["num_tokens"]
        assert row["learning_rate"] == other["learning_rate"]
    last, first = ours.weights(prefix + name), theirs.weights(name)
    assert first.keys() == last.keys()
    for key in first:
        # AdamW turns rounding of a tiny gradient into a share of its step: 5 steps of 2e-3 at most
        torch.testing.assert_close(last[key], first[key], rtol=1e-4, atol=1e-4)


@BY_MODE
def test_losses_gradient_norms_and_weights_are_those_of_one_process(launch, alone, name):
    assert_same_training(launch, alone, name)


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
@pytest.mark.parametrize("name", ALIKE)
def test_fully_sharded_it_trains_resumes_and_ends_like_one_process(launch, alone, name):
    """Resumed too: to the weights of a run in one process that was not interrupted."""
    assert_same_training(launch, alone, name, "fsdp2_")


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
@pytest.mark.parametrize("name", ["fsdp2_dpo", "fsdp2_scalebio"])
def test_a_fully_sharded_run_resumes_bitwise(launch, name):
    whole, resumed = launch.weights(name), launch.weights(f"{name}_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert timeless(launch.rows(name)) == timeless(launch.rows(f"{name}_resumed"))


@pytest.mark.parametrize(("launch", "name"), BY_MASTERS, indirect=["launch"])
def test_bfloat16_weights_with_float32_masters_are_those_of_one_process(launch, alone, name):
    """To the rounding of bfloat16: gradients are summed over ranks in it. Resumed bitwise, from the masters."""
    rows, others = launch.rows(name), alone.rows("masters")
    assert len(rows) == len(others) == STEPS_OF["masters"]
    for row, other in zip(rows, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=5e-2)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=0.1)
    last, first = launch.weights(name), alone.weights("masters")
    assert first.keys() == last.keys()
    for key in first:
        assert last[key].dtype == torch.bfloat16
        torch.testing.assert_close(last[key].float(), first[key].float(), rtol=2**-7, atol=5e-3)
    resumed = launch.weights(f"{name}_resumed")
    assert all(torch.equal(last[key], resumed[key]) for key in last)
    assert timeless(rows) == timeless(launch.rows(f"{name}_resumed"))


@pytest.mark.parametrize("name", ["sft", "reward_model", "dpo", "kto"])
def test_training_moved_the_weights_further_than_rounding(alone, name):
    """So that the equality above means something; the rate is not the one the optimiser was made with."""
    assert len({row["learning_rate"] for row in alone.rows(name)}) > 2
    losses = [row["loss"] for row in alone.rows(name)]
    assert max(losses) - min(losses) > 1e-2


@BY_MODE
def test_evaluation_is_that_of_one_process(launch, alone, name):
    ours, theirs = launch.rows(name)[-1], alone.rows(name)[-1]
    names = [k for k in theirs if k.startswith("eval/")]
    assert "eval/loss" in names
    for key in names:
        assert ours[key] == pytest.approx(theirs[key], rel=1e-4, abs=1e-4), key


@pytest.mark.parametrize("launch", ["ddp", "zero2"], indirect=True)
def test_a_cached_reference_is_the_copy(alone, launch):
    for row, other in zip(launch.rows("dpo_cached"), alone.rows("dpo"), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)


RESUMED = ("dpo", "lora", "reward_model", "psft", "scalebio")


@pytest.mark.parametrize(
    ("launch", "name"),
    [(m, n) for m in MODES for n in RESUMED if f"{n}_resumed" not in LEFT_OUT.get(m, ())],
    indirect=["launch"],
)
def test_a_resumed_run_is_bitwise_the_uninterrupted_one(launch, name):
    whole, resumed = launch.weights(name), launch.weights(f"{name}_resumed")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert timeless(launch.rows(name)) == timeless(launch.rows(f"{name}_resumed"))


@pytest.mark.parametrize("launch", ["ddp", "zero3"], indirect=True)
def test_weights_of_sources_are_those_of_one_process(launch, alone):
    """Both copies are sharded, and the logits are the same on every rank: losses of sources are summed before."""
    ours, theirs = (run.rows("scalebio") for run in (launch, alone))
    for row, other in zip(ours, theirs, strict=True):
        names = [name for name in other if name.startswith(("weights/", "sources/", "twin/"))]
        assert {"weights/polite", "weights/rude", "weights/swapped", "twin/loss"} <= set(names)
        assert [row[name] for name in names] == pytest.approx([other[name] for name in names], rel=1e-4)
    assert ours[0]["weights/polite"] == ours[1]["weights/polite"], "in the first step both are one model"
    assert abs(theirs[-1]["weights/polite"] - 1 / 3) > 1e-3


def test_an_adapter_is_saved_with_its_real_weights(launch):
    found = launch.weights("lora")
    down = {k: v for k, v in found.items() if "lora_A" in k}
    up = {k: v for k, v in found.items() if "lora_B" in k}
    assert len(down) == len(up) == 35  # seven matrices in each of five layers
    assert len(found) == 70
    for tensor in found.values():
        assert tensor.numel() >= 4 * 32
        assert tensor.abs().sum() > 0  # B starts at 0: it was trained, and it was gathered


def texts(run: Launch, name: str) -> list[Any]:
    lines = (run.folder / name / "completions.jsonl").read_text().splitlines()
    return [(r["step"], r["prompt"], r["text"]) for r in map(json.loads, lines)]


def test_completions_are_those_of_one_process(launch, mode, alone):
    for name in ("dpo", "fsdp2_dpo") if mode == "ddp" else ("dpo",):
        assert len(texts(launch, name)) == 4  # two prompts, before and after
        assert texts(launch, name) == texts(alone, "dpo")


def test_a_run_that_diverges_ends_with_the_state_before_it(launch):
    told, quiet = (n["diverging"] for n in launch.notes)
    assert told["error"] == "RunError"
    assert quiet["error"] == "Elsewhere"
    assert "rows" in told["text"]
    steps = sorted(p.name for p in (launch.folder / "diverging" / "checkpoints").iterdir())
    rows = launch.rows("diverging")
    assert steps == [f"step-{len(rows):06d}"]


def test_a_launcher_that_starts_one_process_for_two_is_found_out(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.setenv("MASTER_PORT", "29500")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(UserError, match="several processes and started one"):
        join(1.0)
