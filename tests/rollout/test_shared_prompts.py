"""Attention to prompts that several completions share, against attention to each whole sequence."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_models import CONFIGS, config_of
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from align.rollout.engine import Request, Sampling
from align.rollout.local import engine as local_engine
from align.rollout.local.engine import LocalEngine
from align.rollout.local.shared_prompts import NAME, SharedLayer, sharable, share, shared_attention

HEADS, OWN_HEADS, WIDTH = 4, 2, 8
READS = SimpleNamespace(config=SimpleNamespace(_attn_implementation=NAME))


def cache_of(*layers: DynamicLayer, prompts: int, length: int) -> DynamicCache:
    cache = DynamicCache()
    cache.layers = list(layers)
    for layer in layers:
        layer.update(torch.randn(prompts, OWN_HEADS, length, WIDTH), torch.randn(prompts, OWN_HEADS, length, WIDTH))
    return cache


def test_it_is_attention_to_the_whole_sequence():
    torch.manual_seed(0)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]])
    prompt_of = torch.tensor([0, 0, 0, 1, 1, 2])
    cache = cache_of(DynamicLayer(), prompts=3, length=5)
    keys, values = (x[prompt_of] for x in (cache.layers[0].keys, cache.layers[0].values))
    mask_of_rows = mask[prompt_of]
    share(cache, mask, prompt_of)
    for kept in (None, [0, 2, 3, 4, 5], [0, 1, 2, 3], [1, 3], [1]):  # rows end, then prompts have none left
        if kept is not None:
            chosen = torch.tensor(kept)
            cache.batch_select_indices(chosen)
            keys, values, mask_of_rows = keys[chosen], values[chosen], mask_of_rows[chosen]
        for _ in range(2):
            query, *new = (torch.randn(len(keys), heads, 1, WIDTH) for heads in (HEADS, OWN_HEADS, OWN_HEADS))
            keys, values = torch.cat([keys, new[0]], 2), torch.cat([values, new[1]], 2)
            mask_of_rows = F.pad(mask_of_rows, (0, 1), value=1)
            seen = mask_of_rows.bool()[:, None, None]
            expected = F.scaled_dot_product_attention(query, keys, values, attn_mask=seen, scale=0.5, enable_gqa=True)
            own = cache.layers[0].update(*new)
            found, _ = shared_attention(torch.nn.Module(), query, *own, None, scaling=0.5)
            torch.testing.assert_close(found, expected.transpose(1, 2), rtol=1e-5, atol=1e-6)
            assert cache.get_seq_length() == keys.shape[2]
    assert isinstance(cache.layers[0], SharedLayer)
    assert len(cache.layers[0].prompt[0]) == 1


def test_what_is_not_shared():
    sizes = {"prompts": 2, "length": 5}
    sdpa = SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    window = DynamicSlidingWindowLayer(sliding_window=4)
    assert sharable(cache_of(DynamicLayer(), **sizes), READS)
    assert not sharable(cache_of(DynamicLayer(), **sizes), sdpa)
    assert not sharable(cache_of(DynamicLayer(), window, **sizes), READS)


@pytest.mark.parametrize("kind", [kind for kind in CONFIGS if kind != "falcon"])  # which attends in its own way
def test_an_engine_writes_the_same(kind: str, monkeypatch: pytest.MonkeyPatch):
    draw, shared = np.random.default_rng(5), list[bool]()
    requests = [Request(draw.integers(2, 50, n).astype(np.int32), tuple(range(5 * n, 5 * n + 4))) for n in (3, 9, 17)]
    torch.manual_seed(3)
    config = AutoConfig.for_model(**config_of(kind, vocab_size=50, pad_token_id=0, eos_token_id=1))
    model = AutoModelForCausalLM.from_config(config).eval()
    engine = LocalEngine(model, 0, str, 64)
    sampling = Sampling(max_completion_length=12, stop_token_ids=tuple(range(1, 6)))  # rows leave one after another
    expected = engine.write(requests, sampling)
    model.set_attn_implementation(NAME)
    monkeypatch.setattr(local_engine, "sharable", lambda *given: shared.append(sharable(*given)) or shared[-1])
    found = engine.write(requests, sampling)
    assert len({len(w.tokens) for written in expected for w in written}) > 3
    for ours, theirs in zip((w for ws in found for w in ws), (w for ws in expected for w in ws), strict=True):
        assert ours.tokens.tolist() == theirs.tokens.tolist()
        np.testing.assert_allclose(ours.logps, theirs.logps, rtol=1e-4, atol=1e-5)
    windows = any("sliding" in name for name in getattr(model.config, "layer_types", None) or ())
    assert shared == [not windows and getattr(model.config, "sliding_window", None) is None]
