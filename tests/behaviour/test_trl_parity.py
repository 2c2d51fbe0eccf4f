"""Losses and gradients equal TRL's on the same batches, through its real trainers' `compute_loss`.

Three independent paths meet here: text through TRL's tokenisation, collation and loss on one side, token numbers
through our layouts, scores and losses on the other, both over the same tiny Llama.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM

from align.batches import Group, Tokens
from align.methods.base import find_method
from align.models.frozen import frozen_copy
from align.models.load import load_policy
from align.models.settings import ModelSection
from align.models.tokenizer import load_tokenizer
from align.scoring.experience import Batching, ModelRole, gather_experience, live_batch
from align.scoring.plan import Limits
from align.scoring.score import Scorer
from align.training.build import frozen, kernel_of
from align.training.settings import TrainingSection
from align.training.step import term_counts, term_sums, weighted
from align.world.distributed import World, join
from tests.bench.cases import EOS, Case, Row, Shape, write_model, write_moved
from tests.bench.trl_side import TRLSide

TOLERANCE = 1e-5
TINY = Shape(vocab_size=97, hidden_size=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_size=48)
LENGTHS = ((9, (5, 7)), (3, (11, 2)), (14, (4, 4)), (6, (1, 8)))  # prompt, completions: nothing divides anything
METHODS = {"sft": "sft", "dpo": "dpo", "reward": "reward_model"}
OPTIONS: dict[str, Any] = {"bf16": False, "gradient_checkpointing": False}


@pytest.fixture(scope="module")
def world() -> World:
    return join(1.0)


@dataclass(frozen=True)
class Theirs:
    """What TRL made of a case."""

    case: Case
    folder: Path  # the policy
    other: Path  # the reference
    loss: float
    grads: dict[str, torch.Tensor]


@pytest.fixture(scope="module", params=sorted(METHODS))
def theirs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Theirs:
    case = Case(name="tiny", kind=request.param, what="", shape=TINY, batch_size=len(LENGTHS))
    folder, other = tmp_path_factory.mktemp("policy"), tmp_path_factory.mktemp("reference")
    write_model(folder, case)
    if case.kind == "dpo":
        write_moved(other, case)
    trainer = (side := TRLSide(case, rows(case), folder, OPTIONS)).trainer
    if case.kind == "dpo":
        trainer.ref_model.load_state_dict(LlamaForCausalLM.from_pretrained(other).state_dict())
    trainer.model.train()
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(side._batch()))
    loss.backward()
    return Theirs(case, folder, other, loss.item(), {n: p.grad for n, p in trainer.model.named_parameters()})


def rows(case: Case) -> list[Row]:
    draw = np.random.default_rng(3)
    answers = 1 if case.kind == "sft" else 2

    def tokens(count: int) -> list[int]:
        return draw.integers(2, TINY.vocab_size, count).tolist()

    return [Row(tokens(prompt), [[*tokens(n - 1), EOS] for n in lengths[:answers]]) for prompt, lengths in LENGTHS]


def ours(theirs: Theirs, world: World, layout: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients by the pieces of `train_step`, in micro-batches of a few tokens."""
    case, folder, other = theirs.case, theirs.folder, theirs.other
    head = "scalar" if case.kind == "reward" else "lm"
    settings, section = TrainingSection(), ModelSection(model_name_or_path=str(folder))
    tokenizer = load_tokenizer(section, head)
    model = load_policy(section, tokenizer, head, folder)
    kernel = kernel_of(model, settings, world.device)
    method = find_method(METHODS[case.kind])()
    needs = method.needs()
    batching = Batching(needs, layout, Limits(max_tokens=40, head_chunk=4), world)
    copy = (
        frozen_copy(replace(section, model_name_or_path=str(other)), tokenizer, "lm", other)
        if case.kind == "dpo"
        else None
    )
    roles = {} if copy is None else {"ref": ModelRole(frozen(copy, kernel, world))}
    experience = gather_experience(batching, groups(case), roles, method)
    scorer = Scorer(model, kernel).train()
    counts = term_counts(method.loss(experience.batch))
    asked, total = needs.live_columns(), 0.0
    micros = batching.mine(batching.plan(experience.groups, list(asked)))
    assert len(micros) > 1
    for micro in micros:
        made = batching.score(scorer, experience.groups, micro, asked)
        loss = method.loss(live_batch(experience, micro, made, world))
        share = weighted(loss, term_sums(loss), counts)
        share.backward()
        total += share.item()
    return total, {n: p.grad for n, p in model.named_parameters()}


def groups(case: Case) -> list[Group]:
    found: list[Group] = []
    for i, row in enumerate(rows(case)):
        prompt = np.array(row.prompt, dtype=np.int32)
        members = [Tokens(prompt, np.array(c, dtype=np.int32), np.ones(len(c), dtype=bool)) for c in row.completions]
        found.append(Group(tuple(members), {}, i))
    return found


@pytest.mark.parametrize("layout", ["padded", "packed", "shared"])
def test_loss_and_gradients_equal_trl(theirs: Theirs, world: World, layout: str) -> None:
    loss, grads = ours(theirs, world, layout)
    assert loss == pytest.approx(theirs.loss, abs=TOLERANCE)
    assert grads.keys() == theirs.grads.keys()
    assert max(g.abs().max() for g in theirs.grads.values()) > 1e-3  # there is something to compare
    for name, grad in grads.items():
        torch.testing.assert_close(grad, theirs.grads[name], atol=TOLERANCE, rtol=0, msg=lambda m, n=name: f"{n}: {m}")
