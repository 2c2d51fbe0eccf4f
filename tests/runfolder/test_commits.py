"""What becomes a checkpoint beside the training: one at a time, no failure lost, and nothing under way at the end."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from small_runs import BRIEF, FRESH, lines, metrics, same, train, weights, write_recipe, write_rows

from align.cli.main import main
from align.runfolder import checkpoint
from align.runfolder.commits import Commits

PATIENCE = 60.0


def test_the_next_one_waits_for_the_one_before_and_the_end_for_all():
    commits, go, order = Commits(), threading.Event(), list[str]()

    def first() -> None:
        go.wait(PATIENCE)
        order.append("first")

    with commits.ended():
        commits.begin(first)
        order.append("beside")
        go.set()
        commits.begin(lambda: order.append("second"))
        order.append("beside")
    assert order[:2] == ["beside", "first"]
    assert sorted(order[2:]) == ["beside", "second"]


def test_a_failure_is_told_once(capsys: pytest.CaptureFixture[str]):
    commits = Commits()

    def fail() -> None:
        raise OSError("no room")

    commits.begin(fail)
    with pytest.raises(OSError, match="no room"):
        commits.wait()
    commits.wait()
    assert commits.failure() is None
    with pytest.raises(ZeroDivisionError), commits.ended():
        0 // (commits.begin(fail) or 0)
    assert "warning: no room" in capsys.readouterr().err


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Tom {i} ", "completion": "was a cat."} for i in range(12)]
    return write_recipe(tmp_path / "mine.yaml", {
        "method": {"name": "sft"}, "model": FRESH, "data": {"train": write_rows(tmp_path / "rows.jsonl", rows)},
        "logging": BRIEF,
        "training": {"max_steps": 6, "batch_size": 2, "save_steps": 2, "save_total_limit": 9, "mixed_precision": "no"},
    })  # fmt: skip


def test_steps_are_made_while_a_checkpoint_comes_to_stand(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The sums of each but the last one are held up until a further step is in the log."""
    whole, out, real = train(recipe, tmp_path / "whole"), tmp_path / "run", checkpoint.sha256_of_flushed
    held: list[int] = []

    def later(path: Path) -> str:
        step = int(path.parent.stem.removeprefix(".step-"))
        if step < 6 and path.name == "progress.json":
            waited = threading.Event()
            while len(lines(out / "metrics.jsonl")) <= step:
                assert not waited.wait(0.01)
            held.append(step)
        return real(path)

    monkeypatch.setattr(checkpoint, "sha256_of_flushed", later)
    train(recipe, out)
    assert held == [2, 4]
    assert same(weights(whole), weights(out))
    assert metrics(whole) == metrics(out)
    for path in checkpoint.checkpoints(out / "checkpoints"):
        assert checkpoint.verify(path) == []
    assert [path.name for path in checkpoint.checkpoints(out / "checkpoints")] == [f"step-00000{i}" for i in (2, 4, 6)]


def test_a_disk_that_is_full_when_a_checkpoint_is_flushed_costs_no_step(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The run ends, and keeps the step that it had made meanwhile."""
    whole, out, real = train(recipe, tmp_path / "whole"), tmp_path / "run", checkpoint.sha256_of_flushed
    full = [2]

    def flush(path: Path) -> str:
        if int(path.parent.stem.removeprefix(".step-")) in full:
            full.clear()
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path)

    monkeypatch.setattr(checkpoint, "sha256_of_flushed", flush)
    assert main(["train", str(recipe), f"training.output_dir={out}"]) == 1
    assert "no room to save step-000002" in capsys.readouterr().err
    (kept,) = checkpoint.checkpoints(out / "checkpoints")
    assert checkpoint.verify(kept) == []
    assert checkpoint.step_of(kept) == len(lines(out / "metrics.jsonl")) > 2
    train(recipe, out, "--resume")
    assert same(weights(whole), weights(out))
    assert metrics(whole) == metrics(out)
