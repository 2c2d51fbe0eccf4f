"""VinePPO by the properties of its page, and its values against those of a world that can be enumerated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from online_rig import OnlineRig, online_rig
from rollout_batches import gradient, on_policy, random_rollouts
from torch import Tensor

from align.functional.advantages import step_advantages
from align.lab import bandit
from align.methods.vineppo import VinePPO
from align.rewards.verdicts import RewardFunctions

METHOD = VinePPO(num_restarts=3)
STARTS = ([0, 2, 3], [0], [0, 1], [0, 4])  # of the steps of four completions of six tokens
STATES = ([1, 2, 3], [1], [1, 4], [5, 6])  # the first three are of one prompt


def branching(rewards: list[float], restarts: dict[int, list[float]] | None = None, **knobs: Any) -> Any:
    """Four completions, and what restarts from their states earned."""
    found = [(origin, reward) for origin, earned in (restarts or {}).items() for reward in earned]
    states = torch.zeros(4 + len(found), 6, dtype=torch.int64)
    for row, (starts, numbers) in enumerate(zip(STARTS, STATES, strict=True)):
        states[row, starts] = torch.tensor(numbers)
    batch = random_rollouts(METHOD, size=-(-len(states) // 3)).select(torch.arange(len(states)))
    own = torch.arange(len(states)) < 4
    written = dataclasses.replace(batch.completion, mask=own[:, None].expand(states.shape))
    return dataclasses.replace(
        batch, completion=written, states=states, auxiliary=~own,
        origins=torch.tensor([0] * 4 + [origin for origin, _ in found]),
        rewards=torch.tensor(rewards + [reward for _, reward in found], dtype=torch.float64), **knobs,
    )  # fmt: skip


def worth(batch: Any, method: VinePPO = METHOD) -> tuple[Tensor, Tensor]:
    """Advantages before they are whitened, and values, of the four completions."""
    filled = method.advantages(batch)
    starts = (batch.states > 0) & batch.completion.mask
    raw, values = step_advantages(batch.rewards, filled.estimates, starts, starts, batch.completion.mask)
    return raw[:4], values[:4]


VALUES = {1: [0.0, 1.0, 1.0], 2: [1.0, 1.0, 1.0], 3: [0.0, 0.0, 1.0], 4: [0.0] * 3, 5: [1.0, 0.0, 0.0], 6: [1.0] * 3}


def test_every_state_is_asked_for_once():
    asks = METHOD.resample(branching([1.0, 0.0, 1.0, 0.0]))
    assert [(a.row, a.given, a.count, a.learned) for a in asks] == [
        (0, 0, 3, False), (0, 2, 3, False), (0, 3, 3, False), (2, 1, 3, False), (3, 0, 3, False), (3, 4, 3, False),
    ]  # fmt: skip
    assert METHOD.resample(branching([1.0, 0.0, 1.0, 0.0], VALUES)) == []
    some = {k: v for k, v in VALUES.items() if k != 4}
    assert [a.given for a in METHOD.resample(branching([1.0, 0.0, 1.0, 0.0], some))] == [1]


def test_steps_add_up_to_the_reward_less_the_value_of_the_prompt():
    batch = branching([1.0, 0.0, 1.0, 0.0], VALUES)
    raw, values = worth(batch)
    for row, starts in enumerate(STARTS):
        torch.testing.assert_close(raw[row, starts].sum(), batch.rewards[row] - values[row, 0])
        assert len(set(raw[row].tolist())) <= len(starts), "the tokens of a step share its advantage"
    assert raw.abs().max() <= 1


def test_a_completion_of_one_step_has_a_baseline_of_others():
    raw, _ = worth(branching([1.0, 0.25, 1.0, 0.0], VALUES))
    torch.testing.assert_close(raw[1], torch.full((6,), 0.25 - 2 / 3, dtype=torch.float64))


def test_a_step_that_leads_nowhere_is_worth_nothing():
    same = VALUES | {2: VALUES[1]}
    raw, _ = worth(branching([1.0, 0.0, 1.0, 0.0], same))
    assert raw[0, :2].tolist() == [0.0, 0.0]
    assert raw[0, 2:].abs().min() > 0


def test_a_policy_that_always_writes_the_same_has_nothing_to_learn():
    certain = {1: [1.0] * 3, 2: [1.0] * 3, 3: [1.0] * 3, 4: [1.0] * 3, 5: [0.0] * 3, 6: [0.0] * 3}
    filled = METHOD.advantages(branching([1.0, 1.0, 1.0, 0.0], certain))
    assert not filled.advantages.any()


def test_beyond_the_budget_the_last_estimated_step_takes_the_rest():
    method = VinePPO(num_restarts=3, max_states=1)
    batch = branching([1.0, 0.0, 1.0, 0.0], {k: v for k, v in VALUES.items() if k != 3})
    assert method.resample(batch) == []
    raw, values = worth(batch, method)
    assert not raw[0, 3:].any()
    torch.testing.assert_close(raw[0, 2], batch.rewards[0] - values[0, 2])
    torch.testing.assert_close(raw[0, [0, 2, 3]].sum(), batch.rewards[0] - values[0, 0])


def test_on_policy_without_kl_every_token_pulls_with_its_advantage():
    method = VinePPO(num_restarts=3, kl_coef=0.0)
    batch = on_policy(method.advantages(branching([1.0, 0.0, 1.0, 0.0], VALUES)))
    torch.testing.assert_close(gradient(method, batch), -batch.advantages / batch.completion.mask.sum())
    assert not gradient(method, batch)[4:].any(), "restarts are never learned from"


# ---- a world that can be enumerated ---------------------------------------------------------------------------------

LENGTH = 3


def divides(question: int, ids: Sequence[int]) -> float:
    return float(sum(ids) % 3 == question % 3)


def judged(prompts: Any, completions: Any, completion_ids: Any, question: Any, **columns: Any) -> list[float]:
    return [divides(q, ids) for q, ids in zip(question, completion_ids, strict=True)]


def world(folder: Path, **knobs: Any) -> OnlineRig:
    """Completions of up to three tokens, judged by their sum: what is missing at the end decides."""
    rig = online_rig(VinePPO(**knobs), folder, max_completion_length=LENGTH)
    functions = RewardFunctions({"sum": judged}, {"sum": 1.0})
    rig.source.writer = dataclasses.replace(rig.source.writer, reward_functions=functions)
    rig.source.harvester = dataclasses.replace(rig.source.harvester, reward_functions=functions)
    return rig


def truth(rig: OnlineRig, question: int, prefix: tuple[int, ...], known: dict[tuple[int, ...], float]) -> float:
    """The expected reward of the policy from here on, over everything that it may write."""
    if (question, *prefix) not in known:
        ids = torch.tensor([[*bandit.prompt(question).tolist(), *prefix]])
        with torch.no_grad():
            probs = rig.trainee.module.model(input_ids=ids).logits[0, -1].double().softmax(-1)
        values = [
            divides(question, (*prefix, token)) if token == bandit.EOS or len(prefix) == LENGTH - 1
            else truth(rig, question, (*prefix, token), known)
            for token in range(bandit.VOCABULARY)
        ]  # fmt: skip
        known[question, *prefix] = float(probs @ torch.tensor(values, dtype=torch.float64))
    return known[question, *prefix]


def test_values_are_unbiased_and_as_noisy_as_their_number_says(tmp_path: Path):
    rig, scores, known = world(tmp_path, num_restarts=5, kl_coef=0.0), list[float](), dict[tuple[int, ...], float]()
    while len(scores) < 200:
        experience = rig.source.next(rig.progress).experience
        rig.progress.step += 1  # without learning: another experience by the same policy
        batch, seen = experience.batch, set[int]()
        assert not batch.auxiliary.any(), "what helped is not kept"
        for row, token in (batch.states > 0).nonzero().tolist():
            state = int(batch.states[row, token])
            if state in seen:
                continue
            seen.add(state)
            group = experience.groups[row]
            prefix = tuple(group.members[0].completion[:token].tolist())
            question = int(group.members[0].prompt[1]) - bandit.FIRST_PROMPT
            value = truth(rig, question, prefix, known)
            spread = math.sqrt(value * (1 - value) / 5)
            scores.append((batch.estimates[row, token].item() - value) / spread)
    found = torch.tensor(scores)
    assert abs(found.sum().item() / math.sqrt(len(found))) < 3
    assert found.square().mean().item() == pytest.approx(1, abs=0.35)


def test_equal_states_of_a_run_have_one_estimate(tmp_path: Path):
    rig = world(tmp_path, num_restarts=2, kl_coef=0.0)
    batch = rig.source.next(rig.progress).experience.batch
    there = batch.states > 0
    by_state: dict[int, set[float]] = {}
    for state, estimate in zip(batch.states[there].tolist(), batch.estimates[there].tolist(), strict=True):
        by_state.setdefault(state, set()).add(estimate)
    assert all(len(values) == 1 for values in by_state.values())
    assert sorted(by_state) == list(range(1, len(by_state) + 1))
    lines = rig.source.log.lines(0)
    assert sum(t.auxiliary for t in lines) == 2 * len(by_state)
    own = [t for t in lines if not t.auxiliary]
    beginnings = {(*t.prompt, -1, *t.tokens[:s]) for t in own for s in t.steps}
    assert len(beginnings) == len(by_state)


def test_restarts_from_a_prompt_count_though_its_first_completion_was_not_judged(tmp_path: Path):
    seen = set[int]()

    def judge_of_all_but_the_first(completion_ids: Any, question: Any, **columns: Any) -> list[float | None]:
        found: list[float | None] = []
        for number, ids in zip(question, completion_ids, strict=True):
            found.append(divides(number, ids) if number in seen else None)
            seen.add(number)
        return found

    rig = world(tmp_path, num_restarts=2, kl_coef=0.0)
    functions = RewardFunctions({"sum": judge_of_all_but_the_first}, {"sum": 1.0})
    rig.source.writer = dataclasses.replace(rig.source.writer, reward_functions=functions)
    rig.source.harvester = dataclasses.replace(rig.source.harvester, reward_functions=functions)
    batch = rig.source.next(rig.progress).experience.batch
    written = rig.source.log.lines(0)
    states = len(set(batch.states[batch.states > 0].tolist()))
    assert sum(t.auxiliary for t in written) == 2 * states, "each state once, none of them again"
    assert batch.estimates[:, 0].max() > 0, "restarts are what a prompt's value is made of"
