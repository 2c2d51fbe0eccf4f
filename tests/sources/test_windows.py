"""Completions that are written a window at a time: who writes what when, what is kept of them, and what a kill does."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest
from online_rig import OnlineRig, online_rig
from small_runs import assert_resumes, lines, metrics, same, train, weights

from align.cli.main import main
from align.methods.t_ppo import TPPO

LENGTH, WINDOW = 6, 2
RUN = (
    "data.num_rows=60", "data.max_length=64", "rollout.num_generations=2", "rollout.window=5",
    "rollout.max_completion_length=13", "training.batch_size=4", "training.max_steps=8", "training.eval_steps=8",
    "training.num_train_epochs=null", "training.save_steps=1", "training.save_total_limit=20",
    "logging.num_completions=0", "rollout.record=true", "rollout.max_rows=4", "model.critic=null",
    "rollout.stop_strings=['.']",
)  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> OnlineRig:
    return online_rig(TPPO(), tmp_path, max_completion_length=LENGTH, window=WINDOW, num_generations=3, rate=1e-3)


def test_every_token_is_written_and_learned_from_once(rig: OnlineRig):
    """Each experience continues what is unfinished, from where it stood; its window is what is new."""
    before: dict[tuple[int, int], list[int]] = {}
    ended: set[tuple[int, int]] = set()
    for number in range(8):
        batch = rig.source.next(rig.progress).experience.batch
        written = rig.source.log.lines(number)
        assert len(written) == 8 * 3, "always as many under way"
        for row, t in enumerate(written):
            at = (t.number, t.place)
            assert at not in ended
            known = before.get(at, [])
            assert t.tokens[: t.given] == known
            assert len(t.logps) == len(t.tokens)
            new = len(t.tokens) - t.given
            assert 1 <= new <= WINDOW
            assert new == WINDOW or t.done
            assert batch.window[row].sum() == new
            assert batch.window[row, t.given : len(t.tokens)].all()
            before[at] = t.tokens
            if t.done:
                ended.add(at)
                assert len(t.tokens) == LENGTH or t.stop == "eos"
                assert t.rewards
            else:
                assert not t.rewards
        assert set(before) - ended == {(t.number, t.place) for t in written if not t.done}
        rig.step()
    assert number >= LENGTH // WINDOW
    started = sorted(before)
    assert started == [(n, p) for n in range(started[-1][0] + 1) for p in range(3)][: len(started)], "in turn"


def test_the_log_probabilities_of_a_token_are_those_of_who_wrote_it(rig: OnlineRig):
    rig.step()
    first = {(t.number, t.place): t.logps for t in rig.source.log.lines(0)}
    rig.step()
    carried = [t for t in rig.source.log.lines(1) if t.given]
    assert carried
    for t in carried:
        assert t.logps[: t.given] == first[t.number, t.place]


def test_in_the_first_pass_the_policy_is_who_wrote_the_window(rig: OnlineRig):
    for _ in range(4):
        assert rig.step().metrics["ratio"] == pytest.approx(1, abs=1e-5)


def test_without_a_window_completions_are_whole(tmp_path: Path):
    rig = online_rig(TPPO(), tmp_path, max_completion_length=LENGTH)
    batch = rig.source.next(rig.progress).experience.batch
    assert batch.done.all()
    assert (batch.starts == 0).all()


@pytest.mark.parametrize("seed", range(2))
def test_the_bandit_is_learned_from_windows(tmp_path: Path, seed: int):
    """The last token of a window is never learned from, so the arm must not be that."""
    rig = online_rig(TPPO(lam=1.0), tmp_path, seed=seed, max_completion_length=4, window=2, rate=3e-3)
    assert rig.earned() < 0.4
    assert any(rig.step() and rig.earned() > 0.7 for _ in range(90))


def test_a_run_resumes_bitwise_with_what_was_unfinished(tmp_path: Path):
    """From the beginning, the middle and the end of an experience, with and without the file of the last window."""
    whole = train("t_ppo", tmp_path / "whole", *RUN)
    shares = [line["unfinished"] for line in lines(whole / "metrics.jsonl") if "unfinished" in line]
    assert shares[0] > 0.3
    assert min(shares) < max(shares)
    for step in (2, 3, 6):
        assert_resumes("t_ppo", whole, tmp_path, step, *RUN, without=["rollouts"] if step < 6 else [])
    again = train(whole / "recipe.yaml", tmp_path / "again", "rollout.record=false", f"rollout.replay={whole}")
    assert same(weights(whole), weights(again))


def test_kills_leave_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    def going_on(number: int) -> kills.Sign:
        """While completions of earlier experiences are continued."""
        return lambda out: len(kills.lines(out / f"rollouts/{number:06d}.jsonl")) >= 4

    kills.assert_no_trace(Path("t_ppo"), tmp_path, [going_on(1), going_on(2)], *RUN)


FRAGILE = """
from pathlib import Path

def vowels(prompts, completions, **columns):
    if Path("fail").exists() and Path("calls").read_text().count(".") > 8:
        raise KeyError("no such word")
    with Path("calls").open("a") as calls:
        calls.write("." * len(completions))
    return [sum(c in "aeiou" for c in text) / max(len(text), 1) for text in completions]
"""


def test_a_reward_that_fails_loses_nothing_that_was_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Within the second experience: what the first has left stays where it was until the second is whole."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "fragile.py").write_text(FRAGILE)
    (tmp_path / "calls").write_text("")
    words = (*RUN, "reward.functions=['fragile:vowels']", "training.max_steps=4", "training.eval_steps=0")
    whole = train("t_ppo", tmp_path / "whole", *words)
    (tmp_path / "calls").write_text("")
    (tmp_path / "fail").touch()
    assert main(["train", "t_ppo", *words, "training.output_dir=cut"]) == 1
    assert not (tmp_path / "cut" / "outcome.json").exists()
    (tmp_path / "fail").unlink()
    train("t_ppo", tmp_path / "cut", *words, "--resume")
    assert same(weights(whole), weights(tmp_path / "cut"))
    assert metrics(whole) == metrics(tmp_path / "cut")


@pytest.mark.parametrize(
    ("recipe", "words", "told"),
    [
        ("ppo", ("rollout.window=8",), "rollout.window: ppo learns from whole completions; remove the key"),
        ("t_ppo", ("rollout.window=-1",), "rollout.window: found -1; expected 0 or more"),
        ("t_ppo", ("rollout.window=1",), "rollout.window: found 1; expected 2 to 47 new tokens an experience"),
        ("t_ppo", ("rollout.window=48",), "rollout.window: found 48; expected 2 to 47 new tokens"),
        (
            "t_ppo",
            ("rollout.correction=truncate", "rollout.correction_level=sequence"),
            "rollout.correction_level: found sequence; the tokens of a completion are several policies'",
        ),
        ("t_ppo", ("rollout.max_refills=2",), "rollout.max_refills: is not there for completions that are written"),
        ("t_ppo", ("rollout.staleness=1", "rollout.correction=truncate"), "rollout.staleness: is not there for"),
    ],
)
def test_mistakes_are_told_by_check(recipe: str, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(["check", recipe, *words]) == 2
    assert told in capsys.readouterr().err
