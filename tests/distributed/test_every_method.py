"""Every registered method, on whole weights and on adapters, sharded in every way: as in one process.

Three steps each. Losses agree to 1e-5 of them, gradient norms to 1e-4, weights to 2e-5 where a step moves them by up to
1e-2; what is saved after two steps and restored takes the third step bitwise.
"""

from __future__ import annotations

import pytest
import torch
from launches import Launch
from safetensors.torch import load_file

from align.methods.lookup import method_names

pytestmark = pytest.mark.processes

WAYS = [("ddp", "methods"), ("zero1", "methods"), ("zero2", "methods"), ("zero3", "methods"), ("ddp", "fsdp2_methods")]
BY_WAY = pytest.mark.parametrize(("launch", "job"), WAYS, indirect=["launch"])


@BY_WAY
@pytest.mark.parametrize("name", method_names())
def test_three_steps_are_those_of_one_process(launch: Launch, alone: Launch, job: str, name: str):
    ours, theirs = launch.notes[0][job][name], alone.notes[0]["methods"][name]
    for kind in ("steps", "lora"):
        for (loss, norm), (of_one, norm_of_one) in zip(ours[kind], theirs[kind], strict=True):
            assert loss == pytest.approx(of_one, rel=1e-5, abs=1e-6)
            assert norm == pytest.approx(norm_of_one, rel=1e-4, abs=1e-6)
    for file in (f"{name}.safetensors", f"{name}_lora.safetensors"):
        last, first = load_file(launch.folder / job / file), load_file(alone.folder / "methods" / file)
        assert last.keys() == first.keys()
        for key in first:
            torch.testing.assert_close(last[key], first[key], rtol=1e-4, atol=2e-5)


@BY_WAY
def test_what_is_saved_is_restored_bitwise_and_gone_on_with(launch: Launch, job: str):
    for note in launch.notes:
        for name, told in note[job].items():
            assert told["back"], name
            assert told["again"], name


def test_the_steps_move_the_weights(alone: Launch):
    """By more than the tolerance, a thousand times."""
    for name in method_names():
        assert alone.notes[0]["methods"][name]["steps"][0][1] > 1e-3, name
