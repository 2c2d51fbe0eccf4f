"""Models that are read parameter by parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import TINY

from align.errors import UserError
from align.models.fresh import make_fresh
from align.models.hollow import is_hollow
from align.models.load import load_policy
from align.models.settings import LoraSection, ModelSection
from align.models.tokenizer import load_tokenizer

STORIES = "asset:stories260k"


def loaded(section: ModelSection, head: Any = "lm", *, hollow: bool, init: Path = Path()) -> Any:
    torch.manual_seed(0)
    return load_policy(section, load_tokenizer(section, head), head, init, "hollow" if hollow else None)


def fill(model: Any) -> dict[str, torch.Tensor]:
    for parameter in model.parameters():
        if hasattr(parameter, "stored"):
            assert parameter.isnan().all()
            parameter.data = parameter.stored.read()
    return dict(model.named_parameters())


@pytest.mark.parametrize("head", ["lm", "scalar"])
@pytest.mark.parametrize("keys", [{}, {"lora": LoraSection(r=4, lora_alpha=8)}, {"dtype": "bfloat16"}])
def test_what_is_read_is_what_is_loaded_at_once(head: str, keys: dict[str, Any]):
    section = ModelSection(model_name_or_path=STORIES, **keys)
    late, whole = (loaded(section, head, hollow=hollow) for hollow in (True, False))
    assert is_hollow(late)
    assert not is_hollow(whole)
    ours, theirs = fill(late), dict(whole.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, parameter in theirs.items():
        assert torch.equal(ours[name], parameter), name
        assert ours[name].dtype == parameter.dtype
        assert ours[name].requires_grad == parameter.requires_grad
    buffers = dict(late.named_buffers())
    assert all(torch.equal(buffers[name], buffer) for name, buffer in whole.named_buffers())
    ids = torch.arange(3, 12)[None]
    assert torch.equal(late.eval()(input_ids=ids).logits, whole.eval()(input_ids=ids).logits)


def test_it_takes_no_room_before():
    parameters = list(loaded(ModelSection(model_name_or_path=STORIES), hollow=True).parameters())
    assert sum(p.untyped_storage().nbytes() for p in parameters) < 5 * len(parameters)
    assert sum(p.numel() for p in parameters) > 200_000


def test_what_is_put_together_of_several_or_made_of_weights_is_read_whole(tmp_path: Path):
    assert not is_hollow(loaded(ModelSection(model_name_or_path=STORIES, add_tokens=["<mine>"]), hollow=True))
    dora = ModelSection(model_name_or_path=STORIES, lora=LoraSection(r=2, lora_alpha=2, use_dora=True))
    assert not is_hollow(loaded(dora, hollow=True))
    config = TINY | {"model_type": "mixtral", "num_local_experts": 2}
    experts = ModelSection(config=config, tokenizer_name_or_path=STORIES)
    make_fresh(experts, load_tokenizer(experts, "lm"), 0, tmp_path / "init")
    whole = loaded(experts, hollow=True, init=tmp_path / "init")
    assert not is_hollow(whole)
    assert all(p.isfinite().all() for p in whole.parameters())


def test_damage_is_found_when_it_is_read(tmp_path: Path):
    section = ModelSection(config=TINY, tokenizer_name_or_path=STORIES)
    make_fresh(section, load_tokenizer(section, "lm"), 0, tmp_path / "init")
    file = tmp_path / "init" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})
    model = loaded(section, hollow=True, init=tmp_path / "init")
    with pytest.raises(UserError, match=r"model.safetensors: model.norm.weight holds NaN or infinity"):
        fill(model)
    cut = file.read_bytes()[:-500]
    model = loaded(section, hollow=True, init=tmp_path / "init")
    file.write_bytes(cut)
    with pytest.raises(UserError, match=r"model.safetensors: ends within .*the file is damaged"):
        fill(model)
