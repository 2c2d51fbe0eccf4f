"""Advantages, losses and gradients equal TRL's on the same rollouts, through its real GRPO and RLOO trainers.

Only the writing is replaced: TRL's trainer is handed the completions and does the rest by its own code - tokenising
the prompts, scoring by the policy that wrote and by the reference, rewards, advantages, loss. Ours goes through the
harvest, the scorer and the pieces of `train_step`. Off policy, the weights are exchanged in between.

Where the two are made equal by a setting, it stands in `SETTINGS`; where a constant is left, in `Setting.share`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, LlamaForCausalLM
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from align.methods.base import find_method, of_completion
from align.models.frozen import frozen_copy
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.rewards.base import Sample
from align.rewards.verdicts import RewardFunctions
from align.rollout.settings import RolloutSection
from align.rollout.writer import Trajectory
from align.scoring.experience import Batching, ModelRole, live_batch
from align.scoring.plan import Limits
from align.scoring.role_table import weighs
from align.scoring.score import Scorer
from align.sources.harvest import Harvester, minibatches
from align.training.build import frozen, kernel_of
from align.training.settings import TrainingSection
from align.training.step import term_counts, term_sums, weighted
from align.world.distributed import World, join
from tests.bench.cases import EOS, Case, Shape, words, write_model, write_moved

TOLERANCE = 1e-5
TINY = Shape(vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48)
CASE = Case(name="tiny", kind="grpo", what="", shape=TINY, batch_size=4)
LONGEST = 12
# The prompt's length, and those of its completions. The last group's rewards are all equal.
LENGTHS = ((9, (5, 7, 1, 12)), (3, (11, 2, 6, 6)), (14, (4, 4, 9, 3)), (6, (1, 8, 2, 10)))
SIZE = 4
TEMPERATURE = 0.9


@dataclass(frozen=True)
class Setting:
    """A method's knobs, and TRL's words for the same."""

    method: str
    knobs: dict[str, Any] = field(default_factory=dict)
    words: dict[str, Any] = field(default_factory=dict)

    def share(self, lengths: Sequence[int], learned: Sequence[int]) -> float:
        """TRL's loss over ours. DAPO's mean is over the tokens of groups with some spread of rewards (dynamic
        sampling, which TRL does not do: it divides by the tokens of all groups)."""
        return sum(learned) / sum(lengths) if self.method == "dapo" else 1.0


PLAIN_KL = {"use_bias_correction_kl": False}  # TRL multiplies the k3 term by the ratio unless told not to
SETTINGS = {
    "rloo": Setting("rloo", {"kl_coef": 0.0}, {"beta": 0.0}),
    "rloo_kl": Setting("rloo", {"kl_coef": 0.3}, {"beta": 0.3}),
    "grpo": Setting("grpo", {"kl_coef": 0.0}, {"beta": 0.0, "loss_type": "grpo"}),
    "grpo_kl": Setting("grpo", {"kl_coef": 0.3}, {"beta": 0.3, "loss_type": "grpo", **PLAIN_KL}),
    "grpo_unbiased_kl": Setting(
        "grpo",
        {"kl_coef": 0.3, "unbiased_kl": True},
        {"beta": 0.3, "loss_type": "grpo", "use_bias_correction_kl": True},
    ),
    "dr_grpo": Setting(
        "dr_grpo", {"constant_length": LONGEST}, {"beta": 0.0, "loss_type": "dr_grpo", "scale_rewards": "none"}
    ),
    "dapo": Setting("dapo", {}, {"beta": 0.0, "loss_type": "dapo", "epsilon_high": 0.28}),
    "grpo_tokens": Setting(
        "grpo",
        {"kl_coef": 0.0, "clip_high": 0.28, "aggregation": "token_mean"},
        {"beta": 0.0, "loss_type": "dapo", "epsilon_high": 0.28},
    ),
}


@dataclass(frozen=True)
class Folders:
    """Three models that differ: who wrote, who learns off policy, and the reference."""

    wrote: Path
    moved: Path
    reference: Path


@dataclass(frozen=True)
class Theirs:
    """What TRL made of a setting."""

    setting: Setting
    off_policy: bool
    advantages: torch.Tensor
    loss: float
    clipped: float
    grads: dict[str, torch.Tensor]


@dataclass(frozen=True)
class Found:
    """What we made of it."""

    advantages: torch.Tensor
    loss: float
    clipped: float
    grads: dict[str, torch.Tensor]
    share: float
    num_micro_batches: int


@pytest.fixture(scope="module")
def world() -> World:
    return join(1.0)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    made = Folders(*(tmp_path_factory.mktemp(name) for name in ("wrote", "moved", "reference")))
    write_model(made.wrote, CASE)
    write_moved(made.moved, CASE, seed=4)
    write_moved(made.reference, CASE, seed=5)
    return made


def rollouts() -> list[tuple[list[int], list[list[int]]]]:
    """Prompts with their completions. Those of odd length end; the others were cut."""
    draw = np.random.default_rng(3)

    def tokens(count: int) -> list[int]:
        return draw.integers(2, TINY.vocab_size, count).tolist()

    return [(tokens(n), [[*tokens(m - 1), EOS] if m % 2 else tokens(m) for m in of]) for n, of in LENGTHS]


def earned(completion_ids: Sequence[Sequence[int]], **rest: Any) -> list[float | None]:
    """The reward function of both sides."""
    last = {tuple(c) for c in rollouts()[-1][1]}
    return [0.5 if tuple(ids) in last else (sum(ids) % 11) / 3 for ids in completion_ids]


# ---- their side -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[(name, off) for name in SETTINGS for off in (False, True)], ids=str)
def theirs(request: pytest.FixtureRequest, folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    name, off_policy = request.param
    setting = SETTINGS[name]
    trainer = trl_trainer(setting, off_policy, folders.wrote, tmp_path_factory.mktemp("trl"))
    if trainer.ref_model is not None:
        trainer.ref_model.load_state_dict(weights(folders.reference))
    prompts = [prompt for prompt, completions in rollouts() for _ in completions]
    written = [c for _, completions in rollouts() for c in completions]
    trainer._generate_single_turn = partial(hand_over, setting, prompts, written)
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([{"prompt": words(p) + " "} for p in prompts])
    assert inputs["completion_mask"].sum(-1).tolist() == [len(c) for c in written]
    if off_policy:
        trainer.model.load_state_dict(weights(folders.moved))
    loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    grads = {n: p.grad for n, p in trainer.model.named_parameters()}
    clipped = trainer._metrics["train"]["clip_ratio/region_mean"][-1]
    return Theirs(setting, off_policy, inputs["advantages"], loss.item(), clipped, grads)


def trl_trainer(setting: Setting, off_policy: bool, policy: Path, scratch: Path) -> Any:
    """Two iterations make GRPO's trainer score by the policy that wrote; RLOO's always does."""
    made: tuple[Any, Any] = (RLOOTrainer, RLOOConfig) if setting.method == "rloo" else (GRPOTrainer, GRPOConfig)
    kind, config = made
    args = config(
        output_dir=str(scratch), report_to="none", disable_tqdm=True, use_cpu=True, bf16=False, save_strategy="no",
        gradient_checkpointing=False, per_device_train_batch_size=SIZE * len(LENGTHS), num_generations=SIZE,
        max_completion_length=LONGEST, temperature=TEMPERATURE, num_iterations=1 + off_policy,
        dataloader_pin_memory=False, **setting.words,
    )  # fmt: skip
    return kind(
        model=LlamaForCausalLM.from_pretrained(policy), reward_funcs=[earned], args=args,
        train_dataset=Dataset.from_list([{"prompt": words(prompt) + " "} for prompt, _ in rollouts()]),
        processing_class=AutoTokenizer.from_pretrained(policy),
    )  # fmt: skip


def hand_over(
    setting: Setting, prompts: list[list[int]], written: list[list[int]], prompt_ids: list[list[int]], *rest: Any
) -> Any:
    """In the place of TRL's writing; GRPO's trainer expects the sampler's log-probabilities too, or None."""
    assert prompt_ids == prompts
    return written if setting.method == "rloo" else (written, None)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return LlamaForCausalLM.from_pretrained(folder).state_dict()


# ---- our side -------------------------------------------------------------------------------------------------------


def trajectories(functions: RewardFunctions) -> list[Trajectory]:
    found: list[Trajectory] = []
    for number, (prompt, completions) in enumerate(rollouts()):
        for place, ids in enumerate(completions):
            verdict = functions([Sample(prompt="", completion="", completion_ids=ids)])[0]
            stop = "eos" if ids[-1] == EOS else "length"
            found.append(Trajectory(
                row=number, number=number, place=place, prompt=prompt, tokens=ids, logps=[0.0] * len(ids), stop=stop,
                version=0, text="", rewards=verdict.rewards,
            ))  # fmt: skip
    return found


def ours(theirs: Theirs, folders: Folders, world: World, layout: Any) -> Found:
    """Harvest and loss by the trainer's own pieces, in micro-batches of a few tokens."""
    section, settings, setting = ModelSection(model_name_or_path=str(folders.wrote)), RolloutSection(), theirs.setting
    tokenizer = load_tokenizer(section, "lm")
    model = load_policy(section, tokenizer, "lm", folders.wrote)
    kernel = kernel_of(model, TrainingSection(), world.device)
    method: Any = find_method(setting.method)(**setting.knobs)
    batching = Batching(method.needs(), layout, Limits(max_tokens=60, head_chunk=16), world, TEMPERATURE)
    scorer, functions = Scorer(model, kernel).train(), RewardFunctions({"earned": earned}, {"earned": 1.0})
    roles: dict[str, Any] = {}
    if theirs.off_policy or weighs(method, "old"):
        roles["old"] = ModelRole(scorer)
    if weighs(method, "ref"):
        other = ModelSection(model_name_or_path=str(folders.reference))
        roles["ref"] = ModelRole(frozen(frozen_copy(other, tokenizer, "lm", folders.reference), kernel, world))
    harvest = Harvester(batching, roles, functions, (), settings).harvest(trajectories(functions), method)
    whole, passes = minibatches(harvest, settings, (len(LENGTHS), len(LENGTHS)), 0)
    experience = whole.select(passes[0][0])
    if theirs.off_policy:
        model.load_state_dict(weights(folders.moved))
    counts, asked = term_counts(method.loss(experience.batch)), batching.needs.live_columns()
    total = clipped = 0.0
    micros = batching.mine(batching.plan(experience.groups, list(asked)))
    for micro in micros:
        made = batching.score(scorer, experience.groups, micro, asked)
        sums = term_sums(loss := method.loss(live_batch(experience, micro, made, world)))
        (part := weighted(loss, sums, counts)).backward()
        total, clipped = total + part.item(), clipped + sums["clip_fraction"].item()
    lengths = [int(n) for n in whole.batch.completion.mask.sum(-1)]
    share = setting.share([len(g.members[0].completion) for g in whole.groups], lengths)
    grads = {n: p.grad for n, p in model.named_parameters()}
    advantages = of_completion(harvest.whole.batch)
    return Found(advantages, total, clipped / counts["clip_fraction"], grads, share, len(micros))


@pytest.mark.parametrize("layout", ["padded", "packed", "shared"])
def test_rollouts_are_learned_from_as_by_trl(theirs: Theirs, folders: Folders, world: World, layout: str) -> None:
    found = ours(theirs, folders, world, layout)
    assert found.num_micro_batches > 1
    torch.testing.assert_close(found.advantages, theirs.advantages, atol=TOLERANCE, rtol=0)
    assert theirs.advantages.abs().max() > 0.1
    assert found.loss * found.share == pytest.approx(theirs.loss, abs=TOLERANCE)
    assert found.grads.keys() == theirs.grads.keys()
    assert max(g.abs().max() for g in theirs.grads.values()) > 1e-3  # there is something to compare
    for name, grad in found.grads.items():
        mine, other = grad * found.share, theirs.grads[name]
        torch.testing.assert_close(mine, other, atol=TOLERANCE, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
    assert found.clipped * found.share == pytest.approx(theirs.clipped, abs=TOLERANCE)
    assert (0.02 < theirs.clipped < 0.98) == theirs.off_policy
