"""On-policy distillation by the properties of its page: in the mean over tokens it descends the KL from the teacher."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import method_batches as batches
import pytest
import torch
from bench_of_steps import rig
from online_rig import expert, online_rig
from rollout_batches import gradient, on_policy, random_rollouts

from align.cli.main import main
from align.lab import bandit
from align.methods.opd import OPD

METHOD = OPD()


def test_by_hand() -> None:
    """Two tokens of ratio 1, and one of ratio 2 that the clip takes."""
    made = on_policy(METHOD.advantages(random_rollouts(METHOD)))
    column = {"logps": [[-1.0, -2.0], [-1.0, 0.0]], "old_logps": [[-1.0, -2.0], [-1.0 - math.log(2), 0.0]],
              "teacher_logps": [[-0.5, -4.0], [-0.5 - math.log(2), 0.0]]}  # fmt: skip
    tensors = {name: torch.tensor(values, dtype=torch.float64) for name, values in column.items()}
    tensors["mask"] = torch.tensor([[True, True], [True, False]])
    blank = torch.zeros(2, 2, dtype=torch.float64)
    written = dataclasses.replace(made.completion, **tensors, sampler_logps=blank, entropies=blank)
    batch = dataclasses.replace(made.select(torch.tensor([0, 1])), completion=written, advantages=blank)
    loss = METHOD.loss(METHOD.advantages(batch))
    # A = 0.5, -2, 0.5; the third has rho 2, cut to 1.2: (-0.5 + 2 - 0.6) / 3 = 0.3
    assert batches.value(loss) == pytest.approx(0.3, rel=1e-12)
    assert batches.mean_of(loss, "teacher_kl") == pytest.approx((-0.5 + 2 - 0.5) / 3)
    assert batches.mean_of(loss, "clip_fraction") == pytest.approx(1 / 3)


def test_a_token_is_worth_what_the_teacher_finds_it_likelier() -> None:
    made = on_policy(METHOD.advantages(random_rollouts(METHOD)))
    written = made.completion
    worth = torch.where(written.mask, written.teacher_logps - written.old_logps, 0.0)
    assert torch.equal(made.advantages, worth)
    torch.testing.assert_close(gradient(METHOD, made), -worth / written.mask.sum())


def test_what_a_completion_earns_is_not_learned_from() -> None:
    made = random_rollouts(METHOD)
    other = dataclasses.replace(made, rewards=7 - 3 * made.rewards, groups=made.groups.flip(0))
    one, two = (METHOD.advantages(batch) for batch in (made, other))
    assert torch.equal(gradient(METHOD, one), gradient(METHOD, two))


def test_a_teacher_that_is_the_policy_teaches_nothing() -> None:
    made = on_policy(random_rollouts(METHOD))
    same = dataclasses.replace(made.completion, teacher_logps=made.completion.old_logps)
    filled = METHOD.advantages(dataclasses.replace(made, completion=same))
    assert not gradient(METHOD, filled).any()
    assert batches.mean_of(METHOD.loss(filled), "teacher_kl") == 0


def test_the_mean_gradient_over_all_completions_is_that_of_the_kl_of_every_state() -> None:
    """Three words, two tokens: completions weighed by how likely they are to be written, beside the paper's sum over
    the vocabulary, which is not differentiated through what is written."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=draw, dtype=torch.float64, requires_grad=True)  # of the start, then each word
    teacher = torch.randn(4, 3, generator=draw, dtype=torch.float64).log_softmax(-1)
    logps = logits.log_softmax(-1)
    first = logps[0].detach().exp()
    kl = (logps.exp() * (logps - teacher)).sum(-1)
    (wanted,) = torch.autograd.grad((kl[0] + (first * kl[1:]).sum()) / 2, logits, retain_graph=True)

    texts = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    states = torch.stack([torch.zeros(9, dtype=torch.long), texts[:, 0] + 1], 1)
    made = on_policy(random_rollouts(METHOD, size=3, width=2))
    written = dataclasses.replace(
        made.completion, mask=torch.ones(9, 2, dtype=torch.bool), logps=logps[states, texts],
        old_logps=logps[states, texts].detach(), teacher_logps=teacher[states, texts],
    )  # fmt: skip
    loss = METHOD.loss(METHOD.advantages(dataclasses.replace(made, completion=written)))
    probability = written.old_logps.sum(-1).exp()
    (found,) = torch.autograd.grad((probability * loss.terms["loss"].values.mean(-1)).sum(), logits)
    torch.testing.assert_close(found, wanted)
    told = (probability * loss.terms["teacher_kl"].values.mean(-1)).sum()
    torch.testing.assert_close(told.double(), ((kl[0] + (first * kl[1:]).sum()) / 2).detach(), rtol=1e-6, atol=0)


def test_it_becomes_its_teacher(tmp_path: Path) -> None:
    """Of a bandit that the teacher knows: the first words as likely as the teacher has them, prompt by prompt."""
    bench = online_rig(METHOD, tmp_path, rate=1e-2)
    prompts = torch.stack([torch.from_numpy(bandit.prompt(q)).long() for q in range(bandit.NUM_PROMPTS)])

    def distance() -> float:
        with torch.no_grad():
            policy, teacher = (
                model(input_ids=prompts).logits[:, -1].log_softmax(-1)
                for model in (bench.trainee.module.model, expert().model)
            )
        return (policy.exp() * (policy - teacher)).sum(-1).mean().item()

    before = distance()
    for _ in range(20):
        bench.step()
    assert before > 2
    assert distance() < 0.5


def test_equal_rewards_are_nothing_to_mend(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "opd", "rollout.max_completion_length=4"]) == 0
    out = capsys.readouterr().out
    assert "from 0 to 0" in out, "rewards differ, so nothing is shown"
    assert "nothing to mend" in out


def test_it_asks_for_a_teacher_and_no_reference() -> None:
    assert OPD.needs().roles() == ("old", "sampler", "teacher")
    assert set(rig(METHOD).roles) >= {"teacher"}


def test_wrong_knobs_are_refused() -> None:
    with pytest.raises(ValueError, match=r"opd\.clip_range is 0\.0; it must be more than 0"):
        OPD(clip_range=0.0)
