"""What an experience is made of: what is kept, what weights do to it, what is told of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from bench_of_steps import learn, tiny_llama
from online_rig import OnlineRig, online_rig
from rollout_batches import gradient, on_policy, random_rollouts

from align.batches import Ask
from align.errors import RunError
from align.lab import bandit
from align.methods.base import OF_COMPLETIONS, OnlineMethod, find_method, method_names
from align.methods.dapo import DAPO
from align.methods.grpo import GRPO
from align.methods.gspo import GSPO
from align.methods.loop import LOOP
from align.methods.opd import OPD
from align.methods.p3o import P3O
from align.methods.ppo import PPO
from align.methods.rebel import REBEL
from align.methods.reinforce import Reinforce
from align.methods.rloo import RLOO
from align.methods.spo import SPO
from align.rewards.shape import Overlong, Whiten
from align.rollout.engine import StopReason
from align.rollout.writer import Trajectory
from align.scoring.experience import ModelRole
from align.scoring.score import Kernel, Scorer
from align.sources.harvest import Harvest, minibatches
from align.sources.told import experience_metrics
from align.training.snapshot import Progress

ONLINE = [found() for name in method_names() if issubclass(found := find_method(name), OnlineMethod)]
EVERY = [m for m in (*ONLINE, SPO(ratio_of="completion")) if m.correction_levels]


def written(rig: OnlineRig) -> list[Trajectory]:
    return rig.source.rehearse(8)[0]


def harvested(rig: OnlineRig, trajectories: list[Trajectory]) -> Harvest:
    return rig.source.harvester.harvest(trajectories, rig.source.method)


@pytest.mark.parametrize("method", EVERY, ids=lambda m: f"{m.name}-{getattr(m, 'ratio_of', '')}")
@pytest.mark.parametrize("level", ["token", "completion"])
def test_weights_on_advantages_weigh_the_gradient_where_a_method_says_so_and_only_there(method: Any, level: str):
    batch = random_rollouts(method)
    draw = torch.Generator().manual_seed(1)
    drawn = torch.rand(batch.completion.mask.shape, generator=draw, dtype=torch.float64)
    advantages = drawn.flip(0) + 0.5
    advantages = advantages if "token" in method.correction_levels else advantages[:, :1].expand_as(drawn)
    filled = on_policy(method.advantages(batch))
    filled = dataclasses.replace(filled, advantages=advantages.masked_fill(~batch.completion.mask, 0.0))
    weights = drawn if level == "token" else drawn[:, :1].expand_as(drawn)
    whole, none, weighed = (
        gradient(method, dataclasses.replace(filled, advantages=filled.advantages * w))
        for w in (torch.ones_like(drawn), torch.zeros_like(drawn), weights)
    )
    exact = torch.allclose(weighed - none, (whole - none) * weights, atol=1e-12)
    assert exact == (level == "completion" or "token" in method.correction_levels)


REWARDED = {"rloo": RLOO, "p3o": P3O, "rebel": REBEL, "gspo": GSPO, "ppo": PPO}  # each uses rewards in another way


@pytest.mark.parametrize("name", REWARDED)
def test_of_an_experience_whose_completions_are_all_cut_nothing_is_learned(name: str, tmp_path: Path):
    """There are steps to be made and nothing for them to learn from."""
    rig = online_rig(REWARDED[name](), tmp_path, mask_truncated=True)
    cut = [dataclasses.replace(t, stop=StopReason.LENGTH) for t in written(rig)]
    harvest = harvested(rig, cut)
    assert not harvest.kept.any()
    experience, ((rows,),) = minibatches(harvest, rig.source.settings, (8, 8), 0)
    assert len(rows) == len(cut)
    before = [p.detach().clone() for p in rig.trainee.module.parameters()]
    result = learn(rig.trainee, rig.source.method, experience.select(rows), rig.source.batching, 1e-2)
    assert result.grad_norm == 0
    assert all(torch.equal(p, q) for p, q in zip(before, rig.trainee.module.parameters(), strict=True))


def test_where_some_have_ended_and_prompts_are_too_few_the_cut_ones_stay_out(tmp_path: Path):
    rig = online_rig(P3O(), tmp_path, mask_truncated=True)
    some = [
        dataclasses.replace(t, stop=StopReason.EOS if i < 4 else StopReason.LENGTH) for i, t in enumerate(written(rig))
    ]
    experience, ((*steps,),) = minibatches(harvested(rig, some), rig.source.settings, (8, 2), 0)
    assert len(steps) == 4
    assert sorted(row for rows in steps for row in rows) == [*range(4), *range(8, len(some))]
    assert experience.batch.completion.mask.any(-1).nonzero()[:, 0].tolist() == [0, 1, 2, 3]


def test_what_is_kept_is_chosen_before_advantages_are_weighed(tmp_path: Path):
    """LOOP leaves out what is worth little; a small weight of the correction is another matter."""
    rig = online_rig(LOOP(smallest_advantage=0.05), tmp_path)
    rig.source.harvester.roles["old"] = ModelRole(rig.trainee.module)  # type: ignore[index]
    said = written(rig)
    plain = harvested(rig, said)
    settings = dataclasses.replace(rig.source.settings, correction="truncate")
    rig.source.harvester = dataclasses.replace(rig.source.harvester, settings=settings)
    far = harvested(rig, [dataclasses.replace(t, logps=[v + 9.0 for v in t.logps]) for t in said])
    assert torch.equal(far.kept, plain.kept)
    assert plain.kept.any()
    assert far.whole.batch.advantages.abs().max() < 1e-3 * plain.whole.batch.advantages.abs().max()


def test_equal_groups_are_of_prompts_with_several_completions(tmp_path: Path):
    rig = online_rig(Reinforce(), tmp_path / "one", num_generations=1)
    said = written(rig)
    assert "equal_groups" not in experience_metrics(harvested(rig, said), said, rig.source.harvester)
    rig = online_rig(OPD(), tmp_path / "unrewarded")
    said = written(rig)
    assert "equal_groups" not in experience_metrics(harvested(rig, said), said, rig.source.harvester)
    rig = online_rig(GRPO(), tmp_path / "several")
    said = written(rig)
    earned = [t.rewards["bandit"] for t in said]
    groups = [set(earned[i : i + 8]) for i in range(0, len(earned), 8)]
    found = experience_metrics(harvested(rig, said), said, rig.source.harvester)["equal_groups"]
    assert found == sum(len(g) == 1 for g in groups) / len(groups)


@pytest.mark.parametrize(
    ("hook", "made", "said"),
    [
        ("advantages", lambda rollouts: None, "rloo: advantages returned NoneType, not the rollouts"),
        ("advantages", lambda r: dataclasses.replace(r, advantages=r.rewards[:, None]), r"are \(64, 1\); expected"),
        ("keep", lambda rollouts: rollouts.rewards, r"rloo: keep returned torch.float32 \(64,\); expected bool"),
    ],
)
def test_hooks_that_return_something_else_are_told(
    hook: str, made: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rig = online_rig(RLOO(), tmp_path)
    monkeypatch.setattr(RLOO, hook, lambda self, rollouts: made(rollouts))
    with pytest.raises(RunError, match=said):
        harvested(rig, written(rig))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda rollouts: None, "rloo: resample returned None; expected a list of align.batches.Ask"),
        (lambda rollouts: [7], r"rloo: resample returned \[7\]; expected"),
        (lambda rollouts: [Ask(len(rollouts))], r"rloo: resample asks for row 64; there are rows 0 to 63"),
    ],
)
def test_a_resample_that_asks_for_something_else_is_told(
    made: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(RLOO, "resample", lambda self, rollouts: made(rollouts))
    with pytest.raises(RunError, match=said):
        online_rig(RLOO(), tmp_path).source.next(Progress())


def test_held_out_rewards_are_not_whitened(tmp_path: Path):
    """Whitened with their own mean they would be 0 at every evaluation."""
    rig = online_rig(GRPO(), tmp_path)
    rig.source.harvester = dataclasses.replace(rig.source.harvester, shape=(Whiten(shift_mean=True),))
    found = rig.source.evaluate("validation", 0, lambda done: None).estimates
    assert found["reward"].value == pytest.approx(found["rewards/bandit"].value)
    assert found["reward"].value != 0
    assert rig.source.harvester.rewards(written(rig)).mean().abs() < 1e-6


def test_what_was_earned_is_told_beside_the_shaped_reward(tmp_path: Path):
    rig = online_rig(DAPO(), tmp_path)
    rig.source.harvester = dataclasses.replace(rig.source.harvester, shape=(Overlong(max_length=2, cache=2),))
    said = written(rig)
    batch = harvested(rig, said).whole.batch
    assert batch.earned.tolist() == pytest.approx([t.rewards["bandit"] for t in said])
    assert batch.rewards.tolist() == pytest.approx([t.rewards["bandit"] - t.length / 2 for t in said])


def test_the_policys_stored_columns_are_without_dropout(tmp_path: Path):
    rig = online_rig(RLOO(), tmp_path)
    model = tiny_llama("lm", 0, bandit.VOCABULARY)
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    role = ModelRole(scorer := Scorer(model, Kernel("sdpa")).train())
    groups = harvested(rig, written(rig)).whole.groups
    once, again = (role.stored(rig.source.batching, {"completion": ("logps",)}, groups) for _ in range(2))
    assert torch.equal(once["completion", "logps"], again["completion", "logps"])
    assert scorer.training


def test_completions_have_one_ratio_where_a_method_says_so():
    assert [m.name for m in EVERY if m.correction_levels == OF_COMPLETIONS] == ["gspo", "rloo", "spo"]
