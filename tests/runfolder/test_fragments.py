"""Fragments that some ranks wrote are read by any others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from align.errors import UserError
from align.runfolder.fragments import WEIGHT, Fragment, Saved, write

SHAPES = {"table": (7, 5), "bias": (3,)}


def whole(seed: int = 0) -> dict[str, dict[str, Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return {n: {k: torch.randn(s, generator=draw) for k in (WEIGHT, "exp_avg")} for n, s in SHAPES.items()}


def cut(ends: Sequence[int], of: dict[str, dict[str, Tensor]], rank: int) -> list[Fragment]:
    """The rank's run of every tensor, where the ends are shares of twelfths."""
    found: list[Fragment] = []
    for name, tensors in of.items():
        count = tensors[WEIGHT].numel()
        low, high = (ends[rank + i] * count // 12 for i in (0, 1))
        parts = {key: t.view(-1)[low:high] for key, t in tensors.items()}
        found.append(Fragment(name, SHAPES[name], low, parts, {"step": torch.tensor(3.0)}))
    return found


DIVISIONS = [(0, 12), (0, 6, 12), (0, 1, 2, 12), (0, 4, 4, 12), (0, 5, 10, 12)]


@pytest.mark.parametrize("theirs", DIVISIONS)
@pytest.mark.parametrize("ours", DIVISIONS)
def test_every_division_reads_every_other(ours: Sequence[int], theirs: Sequence[int], tmp_path: Path):
    kept = whole()
    for rank in range(len(theirs) - 1):
        write(tmp_path / "state", rank, cut(theirs, kept, rank), {"rank": rank})
    into = {n: {k: torch.full_like(t, torch.nan) for k, t in of.items()} for n, of in kept.items()}
    for rank in range(len(ours) - 1):
        saved = Saved(tmp_path / "state", rank)
        assert saved.fill(cut(ours, into, rank)) == []
        if ours == theirs:
            assert saved.more == {"rank": rank}
            assert len(saved._open) == 1, "its own file is enough"
    assert all(torch.equal(into[n][k], kept[n][k]) for n in kept for k in kept[n])
    for key in (WEIGHT, "exp_avg"):
        assert all(torch.equal(t, kept[n][key]) for n, t in Saved(tmp_path / "state", 0).whole(key).items())


def test_what_is_not_there_or_of_another_shape_is_named(tmp_path: Path):
    kept = whole()
    write(tmp_path / "state", 0, cut((0, 6, 12), kept, 0))
    asked = {"table": (7, 5), "bias": (3, 1), "head": (2,)}
    saved = Saved(tmp_path / "state", 0)
    lacking = saved.fill([Fragment(n, s, 0, {WEIGHT: torch.zeros(s).view(-1)}) for n, s in asked.items()])
    assert lacking == ["table", "bias", "head"]
    with pytest.raises(UserError, match=r"is of another model: 3 of 3 trained tensors are not in it.*the first table"):
        saved.refuse_lacking(lacking, 3)


def test_a_view_of_much_is_written_alone(tmp_path: Path):
    large = torch.zeros(1_000_000)
    write(tmp_path / "state", 0, [Fragment("bias", (3,), 0, {WEIGHT: large[10:13]})])
    assert (tmp_path / "state-00000.pt").stat().st_size < 10_000
