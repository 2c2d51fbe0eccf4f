"""What is told of a model before it is trained."""

from __future__ import annotations

import json

import pytest
import torch
from mistakes import mistakes
from small_runs import TINY

from align.recipe.load import load_recipe


def notes(*overrides: str) -> str:
    return "\n".join(load_recipe("dpo", overrides).notes)


def test_weights_in_bfloat16_are_told_to_stand_still_at_a_small_rate():
    told = notes("model.dtype=bfloat16", "optim.learning_rate=5e-7")
    assert "model.dtype: bfloat16: no weight above 0.00026 will move: a step of learning_rate 5e-07" in told
    assert "model.dtype: auto with training.mixed_precision: bf16" in told
    lora = ("model.lora={r: 4}", "optim.learning_rate=5e-7")  # whose own weights are float32
    assert "model.dtype" not in notes("model.dtype=bfloat16", *lora) + notes("optim.learning_rate=5e-7")


@pytest.mark.parametrize("rate", [5e-7, 2e-5, 1e-3])
def test_above_that_size_no_weight_moves_and_below_half_of_it_every_one_does(rate: float):
    edge = rate * 512
    sizes = torch.linspace(edge / 64, 4 * edge, 1000).to(torch.bfloat16)
    moved = (sizes.float() + rate * 0.999).to(torch.bfloat16) != sizes
    assert not moved[sizes > edge].any()
    assert moved[sizes < edge / 2].all()


def test_weights_in_float16_are_refused():
    (told,) = mistakes("dpo", "model.dtype=float16")
    assert "model.dtype: found float16" in told
    assert "no loss scaler" in told
    assert "no loss scaler" in notes("model.dtype=float16", "model.lora={r: 4}")


def test_a_config_that_asks_for_the_loss_of_its_routers_is_told():
    moe = {"model_type": "mixtral", "output_router_logits": True, "router_aux_loss_coef": 0.5}
    asks = f"model.config={json.dumps(TINY | moe)}"
    fresh = ("model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k", asks)
    assert "model.router_aux_loss_coef: the model's config asks for the loss of its routers (0.5)" in notes(*fresh)
    assert "router_aux_loss_coef" not in notes(*fresh, "model.router_aux_loss_coef=0") + notes()
