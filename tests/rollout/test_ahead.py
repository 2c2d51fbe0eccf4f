"""Experience by the weights of one experience ago: written ahead, corrected for, resumed, beside the training."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from online_rig import OnlineRig, online_rig
from small_runs import assert_resumes, lines, train

from align.cli.main import main
from align.errors import RunError
from align.methods.grpo import GRPO
from align.rollout.ahead import Ahead
from align.rollout.engine import Engine, Request, Sampling, Written

STALE = {"staleness": 1, "correction": "truncate"}
RUN = (
    "data.num_rows=60", "data.max_length=64", "rollout.num_generations=2", "rollout.num_prompts=8",
    "rollout.max_completion_length=8", "training.batch_size=4", "training.max_steps=12", "training.eval_steps=5",
    "training.num_train_epochs=null", "training.save_steps=1", "training.save_total_limit=20",
    "logging.num_completions=0", "rollout.staleness=1", "rollout.correction=truncate", "model.critic=null",
)  # fmt: skip


def test_each_experience_but_the_first_is_one_behind(tmp_path: Path):
    rig = online_rig(GRPO(kl_coef=0.0), tmp_path, **STALE)
    rig.source.num_steps = 5
    versions = []
    for step in range(5):
        rig.step()
        versions.append({t.version for t in rig.source.log.lines(step)})
    assert versions == [{0}, {0}, {1}, {2}, {3}]
    assert rig.source.log.lines(5) == [], "nothing is written for a step that never comes"


@pytest.mark.parametrize("seed", range(3))
def test_the_bandit_is_learned_from_older_completions(seed: int, tmp_path: Path):
    rig = online_rig(GRPO(kl_coef=0.0), tmp_path, seed=seed, **STALE)
    rig.source.num_steps = 40
    before = rig.earned()
    for _ in range(40):
        rig.step()
    assert before < 0.4
    assert rig.earned() > 0.85


def test_a_run_resumes_bitwise_from_every_place_in_an_experience(tmp_path: Path):
    """Also where the rollouts of the run folder are lost: what was written ahead is part of the checkpoint."""
    whole = train("ppo", tmp_path / "whole", *RUN)
    lags = [line["policy_lag"] for line in lines(whole / "metrics.jsonl") if "policy_lag" in line]
    assert lags == [0.0, 4.0, 4.0]
    for step in (3, 4, 6):
        assert_resumes("ppo", whole, tmp_path, step, *RUN, without=["rollouts"])
    resumed = tmp_path / "cut-6"  # whose checkpoints hold it too
    assert_resumes("ppo", resumed, tmp_path, 7, *RUN, without=["rollouts"])


@dataclass(frozen=True)
class Elsewhere:
    """Engines that write beside the training, and ahead of it only once the gate is open."""

    inner: Any
    gate: threading.Event
    broken: bool = False
    beside: ClassVar[bool] = True

    @contextmanager
    def at(self, version: int, writer: str = "policy") -> Iterator[Engine]:
        with self.inner.at(version, writer) as engine:
            yield Gated(engine, self)

    def moved(self) -> None:
        pass

    def told(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class Gated:
    inner: Engine
    house: Elsewhere

    def write(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Written]]:
        if threading.current_thread().name == "ahead":
            assert self.house.gate.wait(60)
            if self.house.broken:
                raise RunError("the server is gone")
        return self.inner.write(requests, sampling)


def rig_with_server(folder: Path, *, broken: bool = False) -> tuple[OnlineRig, threading.Event]:
    rig, gate = online_rig(GRPO(kl_coef=0.0), folder, **STALE), threading.Event()
    engines = Elsewhere(rig.source.writer.engines, gate, broken)
    rig.source.writer, rig.source.num_steps = replace(rig.source.writer, engines=engines), 3
    return rig, gate


def test_a_server_writes_while_the_policy_learns(tmp_path: Path):
    rig, gate = rig_with_server(tmp_path)
    rig.step()  # made although nothing of the next experience is written yet
    assert rig.source.log.lines(1) == []
    gate.set()
    rig.source.evaluate("validation", 0, lambda done: None)
    assert len(rig.source.log.lines(1)) == 64, "an evaluation waits for it"
    rig.step()
    rig.source.close()


def test_what_fails_ahead_is_told_when_it_is_wanted(tmp_path: Path):
    rig, gate = rig_with_server(tmp_path, broken=True)
    rig.step()
    gate.set()
    assert rig.source.state(rig.progress) is None, "saving does not fail for it"
    with pytest.raises(RunError, match="the server is gone"):
        rig.step()


def test_ahead_raises_at_once_where_it_writes_at_once():
    def fails(seconds: object) -> None:
        raise RunError("no")

    with pytest.raises(RunError, match="no"):
        Ahead(fails, beside=False)
    with pytest.raises(RunError, match="no"):
        Ahead(fails, beside=True).join()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rollout.staleness=1",), "set rollout.correction: truncate"),
        (("rollout.staleness=2", "rollout.correction=truncate"), "found 2; expected 0, or 1"),
    ],
)
def test_older_weights_without_a_correction_are_refused(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["check", "ppo", *words]) == 2
    assert told in capsys.readouterr().err
