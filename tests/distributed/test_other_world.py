"""Runs that go on with another number of processes, or divided otherwise, and what becomes of a divided checkpoint.

Equal in expectation, not bitwise: the steps have the same rows, weights, moments and rates, and sums are rounded in
another order. Losses agree to 1e-5 of them, weights to 1e-4.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from launches import JOBS, STEPS_OF, Launch
from safetensors.torch import load_file
from small_runs import lines

from align.cli.main import main

pytestmark = pytest.mark.processes

ALLOWED = ("--allow-changes", "world_size", "--allow-changes", "sharding")
ONE_TO_TWO = [(mode, "dpo_across") for mode in ("ddp", "zero2", "zero3")]
ONE_TO_TWO += [("ddp", "fsdp2_dpo_across"), ("zero2", "lora_across"), ("zero3", "scalebio_across")]
TWO_TO_ONE = [("ddp", "dpo"), ("zero2", "dpo"), ("zero3", "dpo"), ("ddp", "fsdp2_dpo"), ("zero2", "lora")]


def plain(name: str) -> str:
    return name.removeprefix("fsdp2_").removesuffix("_across")


def assert_goes_on(rows: list[dict[str, float]], weights: dict[str, torch.Tensor], alone: Launch, name: str) -> None:
    assert [row["step"] for row in rows] == list(range(1, STEPS_OF[name] + 1))
    for row, other in zip(rows, alone.rows(name), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert row["num_tokens"] == other["num_tokens"], "the same rows"
        assert row["learning_rate"] == other["learning_rate"]
    for key, tensor in alone.weights(name).items():
        torch.testing.assert_close(weights[key], tensor, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("launch", "name"), ONE_TO_TWO, indirect=["launch"])
def test_what_one_process_began_two_go_on_with(launch: Launch, alone: Launch, name: str):
    assert_goes_on(launch.rows(name), launch.weights(name), alone, plain(name))


@pytest.mark.parametrize(("launch", "name"), TWO_TO_ONE, indirect=["launch"])
def test_what_two_processes_began_one_goes_on_with(
    launch: Launch, alone: Launch, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    job = next(j for j in JOBS if j["name"] == plain(name))
    words = ["train", job["recipe"], *job["overrides"], f"training.output_dir={tmp_path / 'run'}"]
    words += ["--resume", str(launch.folder / name / "checkpoints" / "step-000002")]
    assert main([*words, *ALLOWED]) == 0
    assert "its state is divided anew" in capsys.readouterr().out
    (file,) = (tmp_path / "run" / "final").glob("*.safetensors")
    assert_goes_on(lines(tmp_path / "run" / "metrics.jsonl"), load_file(file), alone, plain(name))


@pytest.mark.parametrize("launch", ["zero2"], indirect=True)
def test_without_the_users_word_it_is_refused(launch: Launch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    job = next(j for j in JOBS if j["name"] == "dpo")
    words = ["train", "dpo", *job["overrides"], f"training.output_dir={tmp_path / 'run'}"]
    assert main([*words, "--resume", str(launch.folder / "dpo" / "checkpoints" / "step-000002")]) == 2
    told = capsys.readouterr().err
    assert "world_size: the saved run has 2, this one 1" in told
    assert "allow the change with --allow-changes world_size" in told
    assert "allow the change with --allow-changes sharding" in told


DIVIDED = [("zero2", "dpo"), ("zero3", "lora"), ("ddp", "fsdp2_dpo"), ("ddp", "fsdp2_lora")]


@pytest.mark.parametrize(("launch", "name"), DIVIDED, indirect=["launch"])
def test_a_divided_checkpoint_is_exported_whole(launch: Launch, name: str, tmp_path: Path):
    """The last one, which final/ was written from."""
    last = sorted((launch.folder / name / "checkpoints").iterdir())[-1]
    assert len(list(last.glob("state-*.pt"))) == 2
    assert main(["export", str(last), str(tmp_path / "one")]) == 0
    assert main(["export", str(launch.folder / name), str(tmp_path / "other")]) == 0
    one, other = (load_file(tmp_path / where / "model.safetensors") for where in ("one", "other"))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[key], other[key]) for key in one)


OFFLOADED = [("zero2", "dpo_offloaded"), ("zero3", "lora_offloaded")]


@pytest.mark.parametrize(("launch", "name"), OFFLOADED, indirect=["launch"])
def test_what_is_kept_in_the_main_memory_learns_and_resumes_alike(launch: Launch, alone: Launch, name: str):
    for run in (name, f"{name}_resumed"):
        assert_goes_on(launch.rows(run), launch.weights(run), alone, name.removesuffix("_offloaded"))
    whole, resumed = launch.weights(name), launch.weights(f"{name}_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize(("launch", "name"), [("zero3", "large"), ("ddp", "fsdp2_large")], indirect=["launch"])
def test_no_rank_holds_more_than_its_share_and_a_layer_while_a_model_is_read(launch: Launch, name: str):
    """Of a model of 227 MB; figures of one of 403 MB are in launch/README.md."""
    for note in launch.notes:
        share = note[name]["bytes"] / 2
        assert share > 100e6
        assert note[name]["peak"] < 1.25 * share
