"""What a resumed run learns from and tells of is its own past: nothing of one that was abandoned."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from small_runs import lines, metrics, same, train, weights

from align.cli.main import main
from align.rollout.log import RolloutLog
from align.runfolder import checkpoint

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
    return [(out / f"rollouts/{number:06d}.jsonl").read_bytes() for number in range(STEPS)]


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


@pytest.mark.parametrize("last", ["rewind", "forget"])
def test_a_run_killed_as_it_goes_back_loses_nothing(
    last: str, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Killed just before either thing that going back to an earlier checkpoint takes away."""
    out = cut(whole, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(*{"rewind": (checkpoint, "rewind"), "forget": (RolloutLog, "forget")}[last], killed)
        words = ("train", "grpo", f"training.output_dir={out}", *RUN)
        assert main([*words, "--resume", str(out / "checkpoints/step-000002")]) == 1
    train("grpo", out, *RUN, "--resume")
    assert rollouts(out) == rollouts(whole)
    assert metrics(out) == metrics(whole)


def killed(*arguments: object, **named: object) -> None:
    raise KeyboardInterrupt


def test_a_flipped_bit_of_what_was_written_is_not_learned_from(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = cut(whole, tmp_path, "step-000006")
    damaged = out / "rollouts/000004.jsonl"
    content = bytearray(damaged.read_bytes())
    content[content.index(b'"logps": [-') + 11] ^= 1  # another digit
    damaged.write_bytes(content)
    train("grpo", out, *RUN, "--resume")
    assert f"{damaged}:1: its content is not what was written" in capsys.readouterr().out
    assert rollouts(out) == rollouts(whole)
    assert metrics(out) == metrics(whole)
    damaged.write_bytes(content)
    words = (*(word for word in RUN if "record" not in word), f"rollout.replay={out}", f"training.output_dir={out}-2")
    assert main(["train", "grpo", *words]) == 1
    assert f"rollout.replay: {damaged}:1: its content is not what was written" in capsys.readouterr().err


def test_experiences_become_longer_or_shorter_only_between_two(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = cut(whole, tmp_path, "step-000006")
    words = (*RUN, "training.save_steps=1", "--allow-changes", "rollout", "--allow-changes", "training")

    def refused(step: int, *change: str) -> str:
        at = str(out / f"checkpoints/step-{step:06d}")
        assert main(["train", "grpo", f"training.output_dir={out}", *words, *change, "--resume", at]) == 2
        return capsys.readouterr().err

    train("grpo", out, *words, "rollout.num_iterations=2", "--resume")
    assert ["reward" in row for row in lines(out / "metrics.jsonl")] == [True] * 5 + [False]
    assert "rollout.num_iterations: step 5 is within an experience of 2 steps, and now they last 1" in refused(5)
    train("grpo", out, *words, "--resume", str(out / "checkpoints/step-000004"))
    told = refused(5, "rollout.num_iterations=2")
    assert "an experience lasts 2 steps now, and none of them begins after step 5. Put the old values back" in told


def test_what_is_under_way_keeps_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (
        *RUN[:5], "training.max_steps=1", "logging.num_completions=0", "rollout.num_generations=2", "rollout.window=5",
        "rollout.max_completion_length=13", "rollout.max_rows=4", "model.critic=null",
    )  # fmt: skip
    out = train("t_ppo", tmp_path / "run", *words)
    longer = ("training.max_steps=2", "training.batch_size=4", "--resume", "--allow-changes", "training")
    assert main(["train", "t_ppo", f"training.output_dir={out}", *words, *longer]) == 2
    assert "4 completions are under way and are gone on with, this recipe has 8" in capsys.readouterr().err
