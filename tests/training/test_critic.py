"""A critic that is a model of its own: what it learns from, what the policy learns from, who learns when."""

from __future__ import annotations

from pathlib import Path

import kills
import pytest
import torch
from bench_of_steps import alone, tiny_llama
from online_rig import OnlineRig, online_rig
from small_runs import lines, metrics, same, told, train, weights
from transformers import AutoModelForSequenceClassification

from align.cli.main import main
from align.lab import bandit
from align.methods.ppo import PPO
from align.runfolder.fragments import Saved
from align.scoring.experience import ModelRole
from align.scoring.score import Kernel, Scorer
from align.training.critic import WINDOW, Warmup, is_flat
from align.training.step import Trainee, train_step
from align.training.team import Team

RUN = (
    "data.num_rows=60", "data.max_length=64", "rollout.num_generations=2", "rollout.num_prompts=8",
    "rollout.max_completion_length=8", "training.batch_size=4", "training.max_steps=8", "training.eval_steps=8",
    "training.num_train_epochs=null", "training.save_steps=1", "training.save_total_limit=9",
    "logging.num_completions=0",
)  # fmt: skip


BOTH = {"policy": 1.0, "critic": 1.0}
Steps = dict[str, torch.Tensor]


def rig_with_critic(folder: Path, **knobs: float) -> OnlineRig:
    rig = online_rig(PPO(kl_coef=0.0, **knobs), folder)
    model = Scorer(tiny_llama("scalar", 1, bandit.VOCABULARY), Kernel("sdpa"))
    critic = Trainee(model, torch.optim.SGD(model.parameters(), lr=1.0), alone(), 0.0, only=("values",))
    policy = Scorer(tiny_llama("lm", 0, bandit.VOCABULARY), Kernel("sdpa"))
    trainee = Trainee(policy, torch.optim.SGD(policy.parameters(), lr=1.0), alone(), 0.0)
    rig.team = Team({"policy": trainee, "critic": critic})
    rig.source.harvester.roles["old"] = ModelRole(rig.team.columns)  # type: ignore[index]
    return rig


def moved(rig: OnlineRig, rates: dict[str, float]) -> tuple[Steps, Steps]:
    """How far a step takes every weight of the policy and of the critic; all numbers are the same each time."""
    team = rig.team
    modules = [learner.module for learner in team.learners.values()]
    before = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in modules]
    portion = rig.source.next(rig.progress)
    lessons = team.lessons(portion.method, rates)
    train_step(team.learners, lessons, {"train": portion.experience}, rig.source.batching, rates)
    policy, own = ({n: p.detach() - was[n] for n, p in m.named_parameters()}
                   for m, was in zip(modules, before, strict=True))  # fmt: skip
    return policy, own


def test_the_policy_learns_nothing_from_the_value_loss(tmp_path: Path):
    """The weight of the value loss scales the step of a critic of its own, and leaves the policy's as it is."""
    one, other = (moved(rig_with_critic(tmp_path / str(c), value_coef=c), BOTH) for c in (0.1, 0.2))
    assert all(torch.equal(one[0][n], other[0][n]) for n in one[0])
    assert any(step.abs().max() > 0 for step in one[0].values())
    for name, step in one[1].items():
        torch.testing.assert_close(2 * step, other[1][name], rtol=1e-4, atol=1e-6)
    assert any(step.abs().max() > 0 for step in one[1].values())


def test_a_critic_that_learns_alone_leaves_the_policy_as_it_is(tmp_path: Path):
    alone_, both = (moved(rig_with_critic(tmp_path / str(len(r))), r) for r in ({"critic": 1.0}, BOTH))
    assert all(step.abs().max() == 0 for step in alone_[0].values())
    assert all(torch.equal(alone_[1][n], both[1][n]) for n in both[1])


@pytest.mark.parametrize(
    ("losses", "flat"),
    [
        ([1.0] * WINDOW, False),
        ([1.0] * 2 * WINDOW, True),
        ([0.8**i for i in range(4 * WINDOW)], False),
        ([0.8**i for i in range(2 * WINDOW)] + [0.1] * 2 * WINDOW, True),
    ],
)
def test_flat_is_what_no_longer_falls(losses: list[float], flat: bool):
    assert is_flat(losses, 0.05) == flat


def test_the_warm_up_ends_by_steps_or_when_flat():
    by_steps, by_loss = Warmup(3), Warmup(100, 0.05)
    assert [by_steps.alone(step, [1.0] * step) for step in range(5)] == [True] * 3 + [False] * 2
    assert [by_loss.alone(step, [1.0] * step) for step in (9, 10, 11)] == [True, False, False]


def test_explained_variance_must_be_flat_too_where_there_is_any():
    warmup, flat = Warmup(100, 0.05), [1.0] * 40
    rising, settled = [0.1 * i for i in range(10)], [0.5] * 2 * WINDOW
    assert warmup.alone(40, flat, rising)
    assert warmup.alone(40, flat, settled[1:]), "too few to know"
    assert not warmup.alone(40, flat, rising + settled)
    assert warmup.alone(40, rising[::-1], settled), "the loss still falls"


def test_pre_training_that_ends_when_flat_resumes_bitwise(tmp_path: Path):
    """Flat means hardly anything here, so the warm-up ends as soon as there are two windows of experiences whose
    rewards differ: of others no variance can be explained."""
    words = (*RUN[:2], *RUN[4:], "rollout.num_generations=2", "rollout.num_prompts=0", "rollout.num_iterations=1",
             "training.max_steps=15", "model.critic={warmup_steps: 50, warmup_flat: 0.99}")  # fmt: skip
    run = train("vc_ppo", tmp_path / "run", *words, "training.save_total_limit=20")
    logged = lines(run / "metrics.jsonl")
    enough = [sum("explained_variance" in line for line in logged[: step + 1]) >= 2 * WINDOW for step in range(15)]
    assert [line["learning_rate"] > 0 for line in logged] == [False, *enough[:-1]]
    assert enough[-2]
    again = tmp_path / "again"
    train("vc_ppo", again, *words, "--resume", str(run / "checkpoints" / "step-000007"))
    assert same(weights(run), weights(again))
    assert metrics(run) == metrics(again)


def test_a_run_with_its_own_critic_warms_up_and_resumes_bitwise(tmp_path: Path):
    """The policy's schedule is over its own five steps, the critic's over all eight; nothing is clipped before."""
    words = (*RUN, "model.critic={warmup_steps: 3, learning_rate: 1.0e-3}", "optim.lr_scheduler_type=linear",
             "method.value_clip=1e-6")  # fmt: skip
    run = train("ppo", tmp_path / "run", *words)
    logged = lines(run / "metrics.jsonl")
    assert [line["learning_rate"] for line in logged] == pytest.approx(
        [0.0] * 3 + [1e-4 * (1 - k / 5) for k in range(5)]
    )
    assert [line["critic_learning_rate"] for line in logged] == pytest.approx([1e-3 * (1 - k / 8) for k in range(8)])
    assert [line["value_clip_fraction"] > 0 for line in logged[:3]] == [False] * 3
    assert any(line["value_clip_fraction"] > 0 for line in logged[3:])
    assert all(line["ratio"] == 1.0 for line in lines(run / "metrics.jsonl")[:3])
    again = tmp_path / "again"
    train("ppo", again, *words, "training.max_steps=8", "--resume", str(run / "checkpoints" / "step-000006"))
    assert same(weights(run), weights(again))
    assert metrics(run) == metrics(again)
    assert told(run / "test.json")["reward"] == told(again / "test.json")["reward"]


def test_saving_while_the_critic_learns_alone_changes_nothing(tmp_path: Path):
    """The policy's optimiser has made no step yet, and a checkpoint must not count one."""
    words = (*RUN, "model.critic={warmup_steps: 3, learning_rate: 1.0e-3}")
    saved, unsaved = (train("ppo", tmp_path / str(n), *words, f"training.save_steps={n}") for n in (1, 8))
    assert same(weights(saved), weights(unsaved))
    again = tmp_path / "again"
    train("ppo", again, *words, "--resume", str(saved / "checkpoints" / "step-000002"))
    assert same(weights(saved), weights(again))


def test_a_kill_while_the_critic_is_trained_first_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    words = (*RUN, "model.critic={warmup_steps: 6, learning_rate: 1.0e-3}")
    assert kills.ended(kills.begin(Path("vc_ppo"), tmp_path / "whole", *words)) == 0
    out = tmp_path / "cut"
    child = kills.begin(Path("vc_ppo"), out, *words)
    assert kills.wait_for(child, lambda: len(kills.lines(out / "metrics.jsonl")) >= 3)
    kills.kill(child)
    assert kills.ended(kills.begin(Path("vc_ppo"), out, *words, "--resume")) == 0
    kills.assert_same_run(out, tmp_path / "whole", 8)
    assert (out / "critic/model.safetensors").read_bytes() == (tmp_path / "whole/critic/model.safetensors").read_bytes()


def test_a_critic_is_kept_and_can_begin_another_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = train("ppo", tmp_path / "run", *RUN, "training.max_steps=2", "model.critic={learning_rate: 1.0e-3}")
    assert f"its critic, as a reward model: {run / 'critic'}" in capsys.readouterr().out
    saved = AutoModelForSequenceClassification.from_pretrained(run / "critic").state_dict()
    kept = Saved(run / "checkpoints" / "step-000002" / "critic" / "state", 0).whole()
    assert all(torch.equal(saved[name.removeprefix("model.")], tensor) for name, tensor in kept.items())
    other = f"model.critic={{model_name_or_path: {run / 'critic'}}}"
    train("ppo", tmp_path / "other", *RUN, "training.max_steps=1", other)


def test_a_critic_of_another_vocabulary_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = (
        *RUN,
        f"training.output_dir={tmp_path / 'run'}",
        "model.critic={model_name_or_path: 'asset:careless_adder'}",
    )
    assert main(["train", "ppo", *words]) == 2
    assert "model.critic.model_name_or_path: asset:careless_adder" in capsys.readouterr().err
