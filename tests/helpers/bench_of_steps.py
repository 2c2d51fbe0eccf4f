"""A method's step on a tiny model, in one process: what the laws of conformance and invariance are tried on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from align.batches import Group, Tokens
from align.methods.base import OnlineMethod
from align.needs import LEARNS, empty_batch
from align.scoring.experience import Batching, Experience, ModelRole, gather_experience, stored_columns
from align.scoring.layout import RowLayout
from align.scoring.plan import Limits
from align.scoring.role_table import named_by
from align.scoring.score import Kernel, Scorer
from align.training.step import StepResult, Trainee, train_step
from align.world.distributed import World

VOCABULARY = 61


@cache
def alone() -> World:
    """One process on the CPU."""
    return World(Accelerator(cpu=True), "none")


def tiny_llama(head: str = "lm", seed: int = 0, vocabulary: int = VOCABULARY) -> Any:
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "llama", vocab_size=vocabulary, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, num_labels=1, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    auto: Any = AutoModelForCausalLM if head == "lm" else AutoModelForSequenceClassification
    return auto.from_config(config, attn_implementation="sdpa")


def head_of(method: Any) -> str:
    needs = method.needs()
    return "lm" if any("logps" in needs.live(m) for m in needs.learned()) else "scalar"


def random_groups(method: Any, count: int, seed: int = 0) -> list[Group]:
    """Rows of unequal lengths; some completion tokens are not the policy's own."""
    draw = np.random.default_rng(seed)
    members = {"pairs": 2, "demonstrations": 1, "unpaired": 1, "prompts": 1}[method.needs().batch.kind]

    def ids(n: int) -> np.ndarray:
        return draw.integers(0, VOCABULARY, n).astype(np.int32)

    groups: list[Group] = []
    asks = isinstance(method, OnlineMethod) and type(method).resample is not OnlineMethod.resample
    prompt = ids(1)
    for i in range(count):
        if members > 1 or method.needs().batch.kind != "prompts" or i % 3 == 0:  # three completions of each prompt
            prompt = ids(int(draw.integers(1, 12)))
        extra = asks and i % 3 == 2  # the completion that the method asked for
        said = []
        for _ in range(members):
            completion = ids(int(draw.integers(1, 9)))
            mask = draw.random(len(completion)) < 0.8
            mask[-1] = True
            mask &= not extra
            said.append(Tokens(prompt, completion, mask))
        reward = float(draw.random())
        row = {"soft_label": 0.9, "group": float(i // 3), "reward": reward, "earned": reward, "auxiliary": float(extra)}
        groups.append(Group(tuple(said), row | {"label": float(i % 2), "margin": 0.1 * i}, i))
    return groups


def learn(
    trainee: Trainee, method: Any, experience: Experience, batching: Batching, rate: float, pull: Any = None
) -> StepResult:
    """A step in which the policy alone learns, by its first lesson."""
    pulls = {} if pull is None else {LEARNS: pull}
    lesson = method.lessons()[0]
    return train_step({LEARNS: trainee}, [lesson], {lesson.stream: experience}, batching, {LEARNS: rate}, pulls)


@dataclass
class Rig:
    """A policy, its optimiser, a reference with other weights, and a batching with a layout."""

    method: Any
    trainee: Trainee
    batching: Batching
    roles: dict[str, Any]

    @property
    def model(self) -> Any:
        return self.trainee.module.model

    def experience(self, groups: Sequence[Group]) -> Experience:
        if not isinstance(self.method, OnlineMethod):
            return gather_experience(self.batching, groups, self.roles, self.method)
        roles = {role: self.roles[role] for role in self.batching.needs.roles() if role != "sampler"}
        stored = stored_columns(self.batching, groups, roles)
        stored["completion", "sampler_logps"] = stored["completion", "old_logps"]
        batch = empty_batch(self.batching.needs, groups, stored)
        return Experience(list(groups), self.method.advantages(batch))

    def step(self, groups: Sequence[Group], rate: float = 0.0) -> StepResult:
        return learn(self.trainee, self.method, self.experience(groups), self.batching, rate)

    def gradients(self, groups: Sequence[Group]) -> dict[str, torch.Tensor]:
        """Of every weight, after a step at rate 0 that keeps them."""
        kept: dict[str, torch.Tensor] = {}
        hooks = [
            self.trainee.optimizer.register_step_pre_hook(
                lambda *_: kept.update({n: p.grad.clone() for n, p in self.model.named_parameters()})
            )
        ]
        self.step(groups, rate=0.0)
        for hook in hooks:
            hook.remove()
        return kept


def rig(
    method: Any, layout: RowLayout = "padded", max_tokens: int = 10_000, head_chunk: int = 10_000, *,
    vocabulary: int = VOCABULARY, rate: float = 1e-3, autocast: torch.dtype | None = None,
) -> Rig:  # fmt: skip
    """Fresh each time, with the same weights each time."""
    head = head_of(method)
    valued = any("values" in method.needs().live(m) for m in method.needs().members)
    kernel = Kernel("sdpa", autocast)
    policy = Scorer(tiny_llama(head, 0, vocabulary), kernel, value_head=valued)
    reference = Scorer(tiny_llama(head, 1, vocabulary), kernel).eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=rate, weight_decay=0.0)
    trainee = Trainee(policy, optimizer, alone(), max_grad_norm=0.0)
    batching = Batching(method.needs(), layout, Limits(max_tokens, head_chunk), alone())
    roles: dict[str, Any] = {"ref": ModelRole(reference), "old": ModelRole(policy)}
    for number, role in enumerate(named_by(method.needs())):
        other = Scorer(tiny_llama(head, 2 + number, vocabulary), kernel).eval().requires_grad_(False)
        roles[role] = ModelRole(other)
    return Rig(method, trainee, batching, roles)
