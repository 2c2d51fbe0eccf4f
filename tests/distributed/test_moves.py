"""Weights that are moved on shards are those that are moved in one process."""

from __future__ import annotations

import pytest
import torch
from launches import Launch
from safetensors.torch import load_file

pytestmark = pytest.mark.processes

MOVES = ("copied", "averaged", "extrapolated", "tried", "pulled", "rounds", "jumped")


def names(mode: str) -> tuple[str, ...]:
    return ("moves", "fsdp2_moves") if mode == "ddp" else ("moves",)


def test_what_is_promised_bitwise_holds_on_every_rank(launch: Launch, mode: str, alone: Launch):
    notes = [*(note[name] for name in names(mode) for note in launch.notes), alone.notes[0]["moves"]]
    for note in notes:
        assert len(note) == 14
        assert all(note.values()), note


def test_moved_weights_are_those_of_one_process(launch: Launch, mode: str, alone: Launch):
    for name in names(mode):
        for move in MOVES:
            ours, theirs = (load_file(run.folder / of / f"{move}.safetensors")
                            for run, of in ((launch, name), (alone, "moves")))  # fmt: skip
            assert ours.keys() == theirs.keys()
            for key in ours:
                torch.testing.assert_close(ours[key], theirs[key], rtol=1e-5, atol=5e-6, msg=f"{move}: {key}")
