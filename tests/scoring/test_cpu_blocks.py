"""Attention by blocks against torch's attention with the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from align.batches import Tokens
from align.scoring import cpu_blocks as blocks
from align.scoring.cpu_blocks import blocked_attention, with_blocks
from align.scoring.layout import lay_out, visible


def seen(layout: str, window: int | None = None) -> torch.Tensor:
    draw = np.random.default_rng(1)

    def tokens(count: int) -> np.ndarray:
        return draw.integers(0, 50, count).astype(np.int32)

    groups: list[list[Tokens]] = []
    for prompt_length, lengths in ((37, (11, 23)), (5, (60, 2)), (29, (8, 8))):
        prompt = tokens(prompt_length)
        groups.append([Tokens(prompt, tokens(n), np.ones(n, dtype=bool)) for n in lengths])
    return visible(lay_out(groups, layout), window)  # type: ignore[arg-type]


@pytest.mark.parametrize("window", [None, 9])
@pytest.mark.parametrize("layout", ["packed", "shared"])
@pytest.mark.parametrize("side", [8, 16, 33])
def test_values_and_gradients_equal_dense_attention(
    layout: str, side: int, window: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "SIDE", side)
    mask = seen(layout, window)
    rows, length = mask.shape[:2]
    module = nn.Module()
    module.num_key_value_groups = 2
    query, key, value = (torch.randn(rows, h, length, 16, requires_grad=True) for h in (4, 2, 2))
    weights = torch.randn(rows, length, 4, 16)
    carried = with_blocks(mask, torch.float32)
    made, _ = blocked_attention(module, query, key, value, carried, scaling=0.3)
    grads = torch.autograd.grad((made * weights).sum(), (query, key, value))
    wide = (key.repeat_interleave(2, 1), value.repeat_interleave(2, 1))
    dense = F.scaled_dot_product_attention(query, *wide, attn_mask=mask[:, None], scale=0.3).transpose(1, 2)
    expected = torch.autograd.grad((dense * weights).sum(), (query, key, value))
    torch.testing.assert_close(made, dense, atol=1e-5, rtol=1e-5)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad, other, atol=1e-5, rtol=1e-4)


def test_what_nobody_sees_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SIDE", 16)
    mask = seen("packed")
    found = with_blocks(mask, torch.float32).blocks  # type: ignore[attr-defined]
    area = sum((b.stop - b.start) * sum(high - low for low, high in b.keys) for b in found)
    assert area < 0.75 * mask.shape[1] ** 2
    met = torch.zeros_like(mask)
    for b in found:
        for low, high in b.keys:
            met[:, b.start : b.stop, low:high] = True
    assert bool((met | ~mask).all())


def test_a_short_mask_is_left_as_it_is() -> None:
    assert not hasattr(with_blocks(seen("shared")[:, :20, :20], torch.float32), "blocks")


def test_under_autocast_the_numbers_are_those_of_dense_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rotated queries and keys are float32 and the values are not, torch's own attention lowers all of them."""
    monkeypatch.setattr(blocks, "SIDE", 16)
    mask, module = seen("packed"), nn.Module()
    rows, length = mask.shape[:2]
    query, key, value = (torch.randn(rows, 2, length, 16, requires_grad=True) for _ in range(3))
    weights = torch.randn(rows, length, 2, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        given = (query, key, value.bfloat16())
        made, _ = blocked_attention(module, *given, with_blocks(mask, torch.bfloat16), scaling=0.3)
        dense = F.scaled_dot_product_attention(*given, attn_mask=mask[:, None], scale=0.3).transpose(1, 2)
    assert made.dtype == dense.dtype == torch.bfloat16
    torch.testing.assert_close(made, dense, atol=0.02, rtol=0.02)
    found, expected = (torch.autograd.grad((x * weights).sum(), (query, key, value)) for x in (made, dense))
    for grad, other in zip(found, expected, strict=True):
        torch.testing.assert_close(grad, other, atol=0.05, rtol=0.05)
