"""Rounds of an online source: files of what was written, and an engine that is told when weights have moved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from online_rig import OnlineRig, online_rig

from align.batches import BY_POLICY
from align.errors import RunError
from align.methods.accelerated_po import AcceleratedPO
from align.methods.rloo import RLOO
from align.methods.sppo import SPPO
from align.rollout.engine import Engine
from align.sources.rounds import EVALUATION, PAIRS, PROMPTS, RoundFiles
from align.sources.served_policy import ServerEngines


@dataclass(frozen=True)
class Telling:
    """Engines that note what they are asked."""

    inner: Any
    asked: list[str] = field(default_factory=list)
    beside: ClassVar[bool] = False

    @contextmanager
    def at(self, version: int, writer: str = BY_POLICY) -> Iterator[Engine]:
        self.asked.append(f"at {version}")
        with self.inner.at(version, writer) as engine:
            yield engine

    def moved(self) -> None:
        self.asked.append("moved")

    def told(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.inner.close()


def rig_of(method: Any, folder: Path) -> tuple[OnlineRig, Telling, RoundFiles]:
    rig = online_rig(method, folder / "rollouts")
    told = Telling(rig.source.writer.engines)
    rig.source.writer = replace(rig.source.writer, engines=told)
    rig.source.rounds = RoundFiles(folder / "rounds", rig.source.writer, rig.source.steps_per_experience)
    return rig, told, rig.source.rounds


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "jumps"), [(AcceleratedPO(), True), (AcceleratedPO(extrapolation_alpha=0.0), False), (RLOO(), False)]
)
def test_an_engine_hears_of_jumps_before_it_writes(method: Any, jumps: bool, tmp_path: Path):
    """A server has been given the solution already, to be evaluated, under the same number of steps."""
    rig, told, _ = rig_of(method, tmp_path)
    rig.step()
    rig.source.evaluate("validation", 1, lambda done: None)
    rig.step()
    assert told.asked == (["moved"] if jumps else []) + ["at 0", "at 1"] + (["moved"] if jumps else []) + ["at 1"]


def test_a_server_that_hears_of_it_is_given_the_weights_again(monkeypatch: pytest.MonkeyPatch):
    given: list[int] = []

    @dataclass
    class Served:
        version: int

    def push(self: Any, version: int) -> Served:
        given.append(version)
        return Served(version)

    monkeypatch.setattr(ServerEngines, "_with_weights", push)
    engines = object.__new__(ServerEngines)
    engines.engine = None
    for moves in (False, False, True):
        if moves:
            engines.moved()
        with engines.at(3):
            pass
    assert given == [3, 3]


def test_what_a_round_leaves_and_what_is_forgotten_of_it(tmp_path: Path):
    rig, _, files = rig_of(SPPO(learned="all"), tmp_path)
    for _ in range(2):
        rig.step()
        rig.source.evaluate("validation", rig.progress.step, lambda done: None)
    first, second = files.of(0), files.of(1)
    assert json.loads((second / EVALUATION).read_text())["step"] == 2
    assert [p["number"] for p in lines(second / PROMPTS)] == list(range(8, 16))
    assert all(pair["chosen_reward"] > pair["rejected_reward"] for pair in lines(first / PAIRS))
    files.forget(begun=2, step=1)  # gone on with from the end of the first, while the second is under way
    assert (first / EVALUATION).exists()
    assert not (second / EVALUATION).exists()
    assert (second / PAIRS).exists()
    files.forget(begun=1, step=1)
    assert not second.exists()
    assert (first / PAIRS).exists()


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path):
    rig, _, _ = rig_of(SPPO(), tmp_path)
    (tmp_path / "rounds").write_text("in the way")
    with pytest.raises(RunError, match=r"round-001.*cannot be written.*go on with --resume"):
        rig.step()
