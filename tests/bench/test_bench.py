"""Both sides of every kind of benchmark case: they can be made, they agree, and they take a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.bench.cases import Case, Shape, rows_of, write_model
from tests.bench.run import PLAIN
from tests.bench.worker import side_of

TINY = Shape(vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48)


def case(kind: Any) -> Case:
    online: dict[str, Any] = {"group_size": 4, "beta": 0.1} if kind in ("grpo", "generate") else {}
    return Case(name="tiny", kind=kind, what="", shape=TINY, batch_size=2, prompt=9, completion=5, **online)


@pytest.fixture(params=["dpo", "sft", "reward", "grpo", "generate"])
def sides(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    tiny = case(request.param)
    write_model(tmp_path, tiny)
    ours, theirs = (
        side_of(name, online=tiny.online)(tiny, rows_of(tiny), tmp_path, options)
        for name, options in (("ours", {}), ("trl", PLAIN))
    )
    return ours, theirs


def agree(ours: Any, theirs: Any) -> None:
    assert ours.tokens() == theirs.tokens()
    for mine, other in zip(ours.columns(), theirs.columns(), strict=True):
        assert mine == pytest.approx(other, abs=1e-5)
    if not ours.case.online:
        return
    assert ours.greedy() == theirs.greedy()
    whole = [ours.case.completion] * ours.case.batch_size * ours.case.group_size
    assert ours.lengths() == theirs.lengths() == whole
    assert ours.learn() == pytest.approx(theirs.learn(), abs=1e-5)
    assert ours.learn()[1] > 1e-3


def test_the_sides_agree_and_take_a_step(sides: tuple[Any, Any]):
    """Questions are answered where a process answers them: before a step, within `train`."""
    ours, theirs = sides
    seconds: list[Any] = []

    def of_theirs() -> bool:
        if not seconds:
            agree(ours, theirs)
        return len(seconds) < 2

    theirs.train(of_theirs, seconds.append)
    mine: list[Any] = []
    ours.train(lambda: len(mine) < 2, mine.append)
    for side, taken in ((ours, mine), (theirs, seconds)):
        assert len(taken) == 2
        if ours.case.online:
            assert sum(side.parts.medians().values()) == pytest.approx(taken[1][0])
            assert min(side.parts.medians().values()) >= 0
