"""Two processes write, are judged and learn as one does."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from launches import MODES, REPLAYED, STEPS_OF, Launch
from safetensors.torch import load_file

pytestmark = pytest.mark.processes

PER_EXPERIENCE = 4
NAMES = pytest.mark.parametrize("name", ["ppo", "critic"])  # a head on the policy's trunk, a model of its own


def rollouts(run: Launch, name: str, number: int) -> list[dict[str, Any]]:
    path = run.folder / name / "rollouts" / f"{number:06d}.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return list({(row["number"], row["place"]): row for row in rows}.values())  # the last line of each counts


@NAMES
def test_the_first_completions_are_those_of_one_process(launch, alone, name):
    ours, theirs = rollouts(launch, name, 0), rollouts(alone, name, 0)
    assert len(ours) == len(theirs) == 14 * 3
    for mine, other in zip(ours, theirs, strict=True):
        assert [mine[k] for k in ("number", "place", "tokens", "stop", "rewards")] == [
            other[k] for k in ("number", "place", "tokens", "stop", "rewards")
        ]
        assert mine["logps"] == pytest.approx(other["logps"], abs=1e-5)


@NAMES
def test_the_first_experience_is_learned_as_by_one_process(launch, alone, name):
    for row, other in zip(launch.rows(name)[:PER_EXPERIENCE], alone.rows(name)[:PER_EXPERIENCE], strict=True):
        for key in ("value", "entropy", "ratio"):
            assert row[key] == pytest.approx(other[key], rel=1e-5), key
        assert row["policy"] == pytest.approx(other["policy"], abs=1e-6)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert row["num_tokens"] == other["num_tokens"]


@NAMES
def test_later_experience_earns_the_same_but_for_rounding(launch, alone, name):
    """A sample may flip where two log-probabilities lie within rounding of a random number."""
    ours, theirs = (run.rows(name)[PER_EXPERIENCE]["reward"] for run in (launch, alone))
    assert ours == pytest.approx(theirs, abs=0.02)


def test_replayed_rollouts_are_learned_to_the_curve_of_one_process(launch, alone):
    """Two experiences, the second one written by weights that had learned from the first."""
    ours, theirs = launch.rows("replayed"), alone.rows("ppo")
    assert len(ours) == len(theirs) == 2 * PER_EXPERIENCE
    for row, other in zip(ours, theirs, strict=True):
        for key in ("value", "entropy", "ratio"):
            assert row[key] == pytest.approx(other[key], rel=1e-5), key
        assert row["policy"] == pytest.approx(other["policy"], abs=1e-6)
        assert {k: row[k] for k in row if k.startswith("reward")} == {
            k: other[k] for k in row if k.startswith("reward")
        }


@pytest.mark.parametrize("launch", ["ddp", "zero3"], indirect=True)
@pytest.mark.parametrize("name", REPLAYED)
def test_what_one_process_has_written_is_learned_from_alike(launch, alone, name):
    """Pairs within a prompt, a regression onto the reference, restarts that help and are not learned from, and rounds
    that begin ahead of the one before."""
    ours, theirs = launch.rows(f"{name}_replayed"), alone.rows(name)
    assert len(ours) == len(theirs) == STEPS_OF[name]
    for row, other in zip(ours, theirs, strict=True):
        for key in ("entropy", "ratio", "reward", "auxiliary"):
            assert row.get(key, 0.0) == pytest.approx(other.get(key, 0.0), rel=1e-5), key
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4, abs=1e-5)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)


GAMES = pytest.mark.parametrize("launch", ["ddp", "zero3"], indirect=True)


@GAMES
def test_copies_of_the_policy_write_on_shards_what_they_write_in_one_process(launch, alone):
    """Their weights are the policy's in the first experience; the reference's are, too, and evaluations are even."""
    ours, theirs = rollouts(launch, "nash_mp", 0), rollouts(alone, "nash_mp", 0)
    assert [t.get("writer", "policy") for t in ours] == ["policy"] * 42 + ["opponent"] * 42
    for mine, other in zip(ours, theirs, strict=True):
        assert all(mine[k] == other[k] for k in ("number", "place", "tokens", "rewards"))
    ours, theirs = (run.rows("nash_mp")[PER_EXPERIENCE - 1]["eval/reward"] for run in (launch, alone))
    assert ours == pytest.approx(theirs, abs=0.1), "a completion may flip"
    targets = [load_file(run.folder / "nash_mp" / "copies" / "target" / "model.safetensors") for run in (launch, alone)]
    assert targets[0].keys() == targets[1].keys()
    assert all(torch.equal(mine, targets[1][name]) for name, mine in targets[0].items()), "it is the first centre still"


@pytest.mark.parametrize("launch", MODES, indirect=True)
def test_a_look_ahead_is_made_and_undone_on_shards_as_in_one_process(launch, mode, alone):
    """The second experience begins at the centre again, against what the look-ahead of one process has written."""
    for name in ("nash_mp_replayed", "fsdp2_nash_mp_replayed") if mode == "ddp" else ("nash_mp_replayed",):
        ours, theirs = launch.rows(name), alone.rows("nash_mp")
        assert len(ours) == len(theirs) == 2 * PER_EXPERIENCE
        for row, other in zip(ours, theirs, strict=True):
            for key in ("entropy", "ratio", "reward", "grad_norm"):
                assert row.get(key, 0.0) == pytest.approx(other.get(key, 0.0), rel=1e-3), key
            for key in ("loss", "target_kl"):
                assert row[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4), key
        for step in (0, PER_EXPERIENCE):
            assert ours[step]["ratio"] == pytest.approx(1.0, abs=1e-5)
            assert ours[step]["target_kl"] == pytest.approx(0.0, abs=1e-4)


@pytest.mark.parametrize("launch", ["ddp", "zero3"], indirect=True)
def test_an_adapter_jumps_on_shards_as_in_one_process(launch, mode, alone):
    """Fully sharded in the first launch. What is saved is one adapter of both rounds, of twice the rank."""
    name = "fsdp2_jumps_replayed" if mode == "ddp" else "jumps_replayed"
    ours, theirs = launch.rows(name), alone.rows("jumps")
    assert len(ours) == len(theirs) == 8
    for row, other in zip(ours, theirs, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    last, first = launch.weights(name), alone.weights("jumps")
    assert last.keys() == first.keys()
    for key, tensor in first.items():
        assert min(tensor.shape) == 2 * 2
        torch.testing.assert_close(last[key], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("launch", ["zero3"], indirect=True)
def test_its_jumps_are_resumed_bitwise(launch):
    whole, resumed = launch.weights("jumps_replayed"), launch.weights("jumps_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
def test_a_teacher_is_learned_from_as_by_one_process(launch, alone):
    ours, theirs = launch.rows("opd"), alone.rows("opd")
    assert len(ours) == len(theirs) == STEPS_OF["opd"]
    for row, other in zip(ours, theirs, strict=True):
        for key in ("loss", "entropy", "ratio", "reward"):
            assert row.get(key, 0.0) == pytest.approx(other.get(key, 0.0), rel=1e-4, abs=1e-6), key
        assert row["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
    last, first = launch.weights("opd"), alone.weights("opd")
    for key, tensor in first.items():
        torch.testing.assert_close(last[key], tensor, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("launch", ["zero3"], indirect=True)
def test_it_is_resumed_bitwise_within_the_second_half(launch):
    whole, resumed = launch.weights("nash_mp"), launch.weights("nash_mp_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
def test_the_dialogues_are_those_of_one_process(launch, alone):
    ours, theirs = rollouts(launch, "dialogues", 0), rollouts(alone, "dialogues", 0)
    assert len(ours) == len(theirs) == 12
    assert any("Then what?" in t["text"] for t in ours)
    for mine, other in zip(ours, theirs, strict=True):
        assert all(mine[k] == other[k] for k in ("number", "place", "tokens", "mask", "stop", "rewards"))


@NAMES
def test_an_experience_is_resumed_bitwise(launch, name):
    """From the middle of the second one."""
    whole, resumed = launch.weights(name), launch.weights(f"{name}_resumed")
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    keep = [{k: v for k, v in row.items() if not k.startswith(("seconds", "tokens_per", "memory"))}
            for run in (name, f"{name}_resumed") for row in launch.rows(run)]  # fmt: skip
    assert keep[: len(keep) // 2] == keep[len(keep) // 2 :]


@pytest.mark.parametrize("launch", ["ddp"], indirect=True)
def test_shards_of_fsdp_write_and_learn_as_one_process_does(launch, alone):
    """While they write, all layers are on both ranks, which write unequally many tokens."""
    ours, theirs = rollouts(launch, "fsdp2_ppo", 0), rollouts(alone, "ppo", 0)
    assert [t["tokens"] for t in ours] == [t["tokens"] for t in theirs]
    for row, other in zip(launch.rows("fsdp2_ppo")[:PER_EXPERIENCE], alone.rows("ppo")[:PER_EXPERIENCE], strict=True):
        for key in ("value", "entropy", "ratio"):
            assert row[key] == pytest.approx(other[key], rel=1e-5), key
