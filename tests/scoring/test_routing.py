"""The load-balancing loss of a mixture of experts: the model's own, over a whole step, however it is divided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_of_steps import alone, learn
from small_runs import lines, run, same, train, weights
from transformers import AutoConfig, AutoModelForCausalLM

from align.batches import Group, Tokens
from align.errors import UserError
from align.methods.sft import SFT
from align.models.load import writing
from align.models.settings import ModelSection
from align.needs import empty_batch
from align.rollout.engine import Request, Sampling
from align.rollout.local.engine import LocalEngine
from align.scoring.experience import Batching, Experience
from align.scoring.layout import RowLayout, lay_out, occurrences
from align.scoring.plan import Limits
from align.scoring.probe import LAYOUTS
from align.scoring.routing import settle_router
from align.scoring.score import Kernel, Scorer
from align.training.step import Trainee

COEF = 0.5
SIZES = {
    "hidden_size": 16, "intermediate_size": 16, "moe_intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "vocab_size": 60, "num_experts_per_tok": 2,
    "max_position_embeddings": 64, "initializer_range": 0.4, "pad_token_id": 0, "router_aux_loss_coef": COEF,
}  # fmt: skip
FAMILIES = {
    "mixtral": {"num_local_experts": 5}, "qwen3_moe": {"num_experts": 4}, "olmoe": {"num_experts": 4},
    "gpt_oss": {"num_local_experts": 4, "layer_types": ["full_attention"] * 2},
}  # fmt: skip


def model_of(family: str) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **SIZES, **FAMILIES[family], attn_implementation="eager")
    return AutoModelForCausalLM.from_config(config)


def groups() -> list[Group]:
    """Demonstrations of unequal lengths, two of each prompt."""
    draw = np.random.default_rng(0)
    made = []
    for i, size in enumerate((3, 9, 5, 2, 8, 6)):
        prompt = np.arange(1, 5 + i // 2, dtype=np.int32)
        made.append(Tokens(prompt, draw.integers(1, 60, size).astype(np.int32), np.ones(size, dtype=bool)))
    return [Group((t,), {}, i) for i, t in enumerate(made)]


def stepped(model: Any, layout: RowLayout = "padded", max_tokens: int = 10_000, coef: float = COEF) -> Any:
    """The gradients of a step, and its metrics."""
    rows, method = groups(), SFT()
    trainee = Trainee(Scorer(model, Kernel("eager")), torch.optim.SGD(model.parameters(), lr=0.0), alone(), 0.0)
    trainee = settle_router(trainee, ModelSection(router_aux_loss_coef=coef))
    batching = Batching(method.needs(), layout, Limits(max_tokens, 10_000), alone())
    grads: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: grads.update({name: p.grad.clone()}))
    result = learn(trainee, method, Experience(rows, empty_batch(method.needs(), rows, {})), batching, 0.0)
    return grads, result.metrics


def own_loss(model: Any) -> Any:
    """transformers' loss of the same rows, padded, its router's loss in it."""
    rows = [g.members[0] for g in groups()]
    width = max(map(len, rows))
    ids, mask = torch.zeros(2, len(rows), width, dtype=torch.long)
    labels = torch.full_like(ids, -100)
    for i, t in enumerate(rows):
        whole = torch.from_numpy(np.concatenate([t.prompt, t.completion])).long()
        ids[i, : len(t)], mask[i, : len(t)] = whole, 1
        labels[i, len(t.prompt) : len(t)] = whole[len(t.prompt) :]
    return model(input_ids=ids, attention_mask=mask, labels=labels, output_router_logits=True)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_loss_of_the_model_itself(family: str):
    model = model_of(family)
    own = own_loss(model)
    own.loss.backward()
    wanted = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    grads, metrics = stepped(model)
    assert metrics["router_loss"] == pytest.approx(own.aux_loss.item(), rel=1e-5)
    assert metrics["loss"] == pytest.approx(own.loss.item(), rel=1e-5)
    for name, grad in wanted.items():
        torch.testing.assert_close(grads[name], grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("layout", "max_tokens"), [("padded", 20), ("packed", 10_000), ("packed", 30)])
def test_layouts_and_micro_batches_change_nothing(layout: RowLayout, max_tokens: int):
    grads, metrics = stepped(model_of("mixtral"))
    others, same_ = stepped(model_of("mixtral"), layout, max_tokens)
    assert same_["router_loss"] == pytest.approx(metrics["router_loss"], rel=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(others[name], grad, rtol=1e-4, atol=1e-5)


def test_a_shared_prompt_counts_for_each_of_its_completions():
    prompt, mask = np.array([5, 6, 7], dtype=np.int32), np.ones(2, dtype=bool)
    said = [np.array(ids, dtype=np.int32) for ids in ([1, 2], [3], [4, 4])]
    members, other = [Tokens(prompt, ids, mask[: len(ids)]) for ids in said[:2]], [Tokens(prompt[:1], said[2], mask)]
    assert occurrences(lay_out([members, other], "shared")).tolist() == [[2, 2, 2, 1, 1, 1], [1, 1, 1, 0, 0, 0]]
    assert occurrences(lay_out([members, other], "padded")).tolist() == [[1] * 5, [1] * 4 + [0], [1] * 3 + [0, 0]]
    for layout in LAYOUTS:
        rows = lay_out([members, other], layout)
        found = torch.zeros(8, dtype=torch.long).index_add(0, rows.input_ids.flatten(), occurrences(rows).flatten())
        assert found.tolist() == [0, 1, 1, 1, 2, 3, 2, 2], layout


def test_without_a_weight_no_pass_is_made_and_nothing_is_told():
    _, metrics = stepped(model_of("mixtral"), coef=0.0)
    assert "router_loss" not in metrics


def test_a_model_without_routers_is_refused():
    config = AutoConfig.for_model("llama", **SIZES)
    with pytest.raises(UserError, match="LlamaForCausalLM has no router loss of its own"):
        stepped(AutoModelForCausalLM.from_config(config))


MOE = {**SIZES, "model_type": "mixtral", "num_local_experts": 4, "output_router_logits": True}
ROWS = "asset:polite_pairs/train.jsonl"


@pytest.fixture
def recipe() -> dict[str, Any]:
    config = {k: v for k, v in MOE.items() if k not in ("vocab_size", "pad_token_id", "moe_intermediate_size")}
    return {
        "method": {"name": "dpo"},
        "model": {"config": config | {"max_position_embeddings": 512}, "tokenizer_name_or_path": "asset:stories260k"},
        "data": {"train": ROWS, "num_rows": 24, "max_length": 96, "columns": {"prompt": "{instruction}"}},
        "optim": {"learning_rate": 1e-3},
        "training": {
            "batch_size": 8, "max_steps": 3, "save_steps": 1, "max_tokens": 600, "gradient_checkpointing": True,
        },
        "logging": {"num_completions": 1, "max_completion_length": 4},
    }


def test_a_run_adds_it_and_resumes_bitwise(recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Also with checkpointed layers, whose routers are heard in the first pass over them."""
    recipe["model"]["router_aux_loss_coef"] = COEF
    out = run(tmp_path / "run", recipe)
    assert all(line["router_loss"] >= 2 for line in lines(out / "metrics.jsonl")), "even use gives top_k"
    assert "router_aux_loss_coef" not in capsys.readouterr().out
    again = tmp_path / "again"
    train(tmp_path / "run.yaml", again, "--resume", str(out / "checkpoints/step-000002"))
    assert same(weights(out), weights(again))


def test_such_a_model_writes_with_its_cache():
    """transformers' own loss of one more token does not fit the mask of all tokens."""
    model = model_of("mixtral").eval()
    model.config.output_router_logits = True
    requests = [Request(np.array(ids, dtype=np.int32), (1, 2)) for ids in ([5, 6, 7], [8])]
    with writing(model):
        sampling = Sampling(max_completion_length=4, stop_token_ids=(2,))
        written = LocalEngine(model, 0, lambda ids: "", 8).write(requests, sampling)
    assert all(1 <= len(one.tokens) <= 4 for of in written for one in of)
    assert model.config.output_router_logits


def test_a_config_that_asks_for_it_is_told(recipe: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = run(tmp_path / "run", recipe, "training.max_steps=1")
    told = capsys.readouterr().out
    assert "model.router_aux_loss_coef: the model's config asks for the loss of its routers (0.5)" in told
    assert "router_loss" not in lines(out / "metrics.jsonl")[0]
    silent = run(tmp_path / "silent", recipe, "training.max_steps=1", "model.router_aux_loss_coef=0")
    assert "asks for the loss" not in capsys.readouterr().out
    assert same(weights(out), weights(silent))
