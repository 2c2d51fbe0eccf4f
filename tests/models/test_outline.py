"""What an adapter trains, counted and refused without a weight."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mistakes import mistakes
from small_runs import TINY
from tiny_models import STORIES

from align.cli.main import main
from align.models.load import load_policy
from align.models.outline import num_adapted
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import Head, load_tokenizer

MOE = TINY | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize("head", ["lm", "scalar"])
@pytest.mark.parametrize("keys", [{}, {"add_tokens": ["<a>"]}])
def test_the_count_is_that_of_the_model_with_its_weights(head: Head, keys: dict[str, Any], tmp_path: Path):
    section = ModelSection(model_name_or_path=STORIES, lora=LoraSection(r=4, target_modules=["q_proj"]), **keys)
    model = load_policy(section, load_tokenizer(section, head), head, tmp_path)
    assert num_adapted(section, head) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_check_counts_experts_and_refuses_what_matches_nothing(capsys: pytest.CaptureFixture[str]):
    words = ["dpo", "model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k"]
    experts = [f"model.config={json.dumps(MOE)}", "model.lora={r: 4}"]
    assert main(["check", *words, *experts]) == 0
    out = capsys.readouterr().out
    section = ModelSection(config=MOE, tokenizer_name_or_path="asset:stories260k", lora=LoraSection(r=4))
    assert f"{num_adapted(section, 'lm'):,} of them trained" in out
    nothing = [f"model.config={json.dumps(TINY)}", "model.lora={r: 4, target_modules: [qproj]}"]
    assert main(["check", *words, *nothing]) == 2
    assert "target_modules: qproj matches nothing in LlamaForCausalLM" in capsys.readouterr().err
    tied = [f"model.config={json.dumps(TINY)}", "model.lora={r: 4, target_modules: [q_proj, lm_head]}"]
    assert main(["check", *words, *tied]) == 2
    assert "the head is the embedding table" in capsys.readouterr().err


def test_a_quantised_base_is_refused_before_anything_is_loaded():
    config = json.dumps(TINY | {"quantization_config": {"quant_method": "mxfp4"}})
    fresh = ("model.model_name_or_path=null", "model.tokenizer_name_or_path=asset:stories260k")
    assert any("its weights are quantised (mxfp4)" in one for one in mistakes("dpo", f"model.config={config}", *fresh))
