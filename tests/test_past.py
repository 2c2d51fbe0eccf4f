"""What a resumed run learns from and tells of is its own past: nothing of one that was abandoned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, train, weights

STEPS = 6
RUN = (
    "data.num_rows=40", "data.test=0", "data.validation=0", "training.eval_steps=0", "training.batch_size=2",
    f"training.max_steps={STEPS}", "training.save_steps=2", "training.save_total_limit=9", "logging.num_completions=0",
    "rollout.num_generations=2", "rollout.max_completion_length=8", "rollout.record=true",
)  # fmt: skip
FASTER = ("optim.learning_rate=3e-2", "--allow-changes", "optim.learning_rate")
SAMPLING_GAP = 1e-3  # of the log-probabilities of who writes and who learns, where they are the same weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train("grpo", tmp_path_factory.mktemp("whole") / "run", *RUN)


def cut(whole: Path, folder: Path, *gone: str) -> Path:
    return Path(shutil.copytree(whole, folder / "run", ignore=shutil.ignore_patterns("final", "outcome.json", *gone)))


def rollouts(out: Path) -> list[bytes]:
    return [(out / f"rollouts/{phase:06d}.jsonl").read_bytes() for phase in range(STEPS)]


def assert_own_experience(out: Path, since: int) -> None:
    """Every experience from this one on was written by the weights that learn from it, and by this process."""
    told = lines(out / "metrics.jsonl")
    assert [row["step"] for row in told] == list(range(1, STEPS + 1))
    assert all(row["sampler_gap"] < SAMPLING_GAP for row in told)
    assert all(row["seconds_generate"] > 0 for row in told[since:])


def test_back_at_an_earlier_checkpoint_a_changed_run_writes_anew(whole: Path, tmp_path: Path):
    out = cut(whole, tmp_path)
    train("grpo", out, *RUN, "--resume", str(out / "checkpoints/step-000002"), *FASTER)
    assert_own_experience(out, since=2)
    before, after = rollouts(whole), rollouts(out)
    assert before[:2] == after[:2], "what was learned from before is still told"
    assert all(one != other for one, other in zip(before[3:], after[3:], strict=True))


@pytest.mark.parametrize("record", ["true", "false"])
def test_what_came_after_the_last_checkpoint_is_not_found(whole: Path, tmp_path: Path, record: str):
    out = cut(whole, tmp_path, "step-000006")
    train("grpo", out, *RUN, f"rollout.record={record}", "--resume", *FASTER, "--allow-changes", "rollout.record")
    assert_own_experience(out, since=4)


def test_without_a_checkpoint_a_changed_run_begins_anew(whole: Path, tmp_path: Path):
    out = cut(whole, tmp_path, "checkpoints")
    train("grpo", out, *RUN, "--resume", *FASTER)
    assert_own_experience(out, since=0)
    assert train("grpo", tmp_path / "new", *RUN, "optim.learning_rate=3e-2")
    assert metrics(out) == metrics(tmp_path / "new")


def test_an_unchanged_run_reads_what_its_weights_wrote_and_writes_the_rest_again(whole: Path, tmp_path: Path):
    """The experience that begins at the checkpoint was written by its weights, the next one by later weights."""
    out = cut(whole, tmp_path, "step-000006")
    train("grpo", out, *RUN, "--resume")
    assert lines(out / "metrics.jsonl")[4]["seconds_generate"] == 0
    assert lines(out / "metrics.jsonl")[5]["seconds_generate"] > 0
    assert rollouts(out) == rollouts(whole)
    assert metrics(out) == metrics(whole)
    assert same(weights(out), weights(whole))
