"""A model whose recipe asks for dropout is measured without it."""

from __future__ import annotations

import pytest
import torch
from families import GROUPS, asked, family, run

from align.scoring.choose_layout import measured
from align.scoring.layout import lay_out


@pytest.mark.parametrize(("name", "rate"), [("llama", "attention_dropout"), ("gpt2", "resid_pdrop")])
def test_a_model_with_dropout_is_measured_without_it(name: str, rate: str):
    scorer = family(name, "sdpa", **{rate: 0.5})
    scorer.train()
    rows = lay_out(GROUPS, "padded")
    assert not torch.equal(run(scorer, rows, "logps"), run(scorer, rows, "logps"))
    assert set(measured(scorer, scorer, asked(longest=40)).values()) == {""}
    assert scorer.training
