"""The shipped model with wider heads: vLLM's attention on a CPU has none as narrow as its 8 numbers.

The new places hold zeros, so attention scores stay what they are once the queries make up for the larger divisor
sqrt(32). Rotary frequency i of 4 is theta ** (-i / 4), which is frequency 4 i of 16: the old places are spread so.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from align.assets import asset

NARROW, WIDE = 8, 32
HALF = torch.arange(NARROW // 2) * (WIDE // NARROW)
PLACES = torch.cat([HALF, HALF + WIDE // 2])  # of the old numbers among the new


def _spread(weight: Tensor, dim: int) -> Tensor:
    """(heads * 8) along `dim` -> (heads * 32)."""
    heads = weight.shape[dim] // NARROW
    split = weight.movedim(dim, 0).reshape(heads, NARROW, -1)
    wide = split.new_zeros(heads, WIDE, split.shape[-1])
    wide[:, PLACES] = split
    return wide.reshape(heads * WIDE, -1).movedim(0, dim).contiguous()


def make_wider(folder: Path) -> Path:
    """Saves model and tokenizer; its logits are those of the shipped one."""
    shipped = str(asset("stories260k"))
    config = AutoConfig.from_pretrained(shipped, head_dim=WIDE)
    narrow = AutoModelForCausalLM.from_pretrained(shipped)
    model = AutoModelForCausalLM.from_config(config)
    weights = narrow.state_dict()
    for name, weight in weights.items():
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            larger = (WIDE / NARROW) ** 0.5 if "q_proj" in name else 1.0
            weights[name] = _spread(weight, 0) * larger
        elif name.endswith("o_proj.weight"):
            weights[name] = _spread(weight, 1)
    model.load_state_dict(weights)
    model.generation_config = narrow.generation_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(shipped).save_pretrained(folder)
    return folder
