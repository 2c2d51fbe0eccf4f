"""The cache with room behind its keys, against transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from align.rollout.local.roomy_cache import ROOM, RoomyLayer, make_room


def states(tokens: int, rows: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(rows, 2, tokens, 4), torch.randn(rows, 2, tokens, 4)


def test_it_holds_what_the_growing_cache_holds():
    plain = DynamicLayer()
    roomy = RoomyLayer(*plain.update(*states(7)))
    for number in range(2 * ROOM):
        if number == 3:  # rows end
            kept = torch.tensor([4, 0, 1])
            plain.batch_select_indices(kept)
            roomy.batch_select_indices(kept)
        new = states(1, rows=5 if number < 3 else 3)
        for ours, theirs in zip(roomy.update(*new), plain.update(*new), strict=True):
            assert torch.equal(ours, theirs)
        assert roomy.get_seq_length() == plain.get_seq_length() == 8 + number


def test_a_token_is_written_in_place():
    roomy = RoomyLayer(*states(7))
    places = [roomy.update(*states(1))[0].data_ptr() for _ in range(ROOM + 1)]
    assert len(set(places[:ROOM])) == 1
    assert places[ROOM] not in places[:ROOM]


@pytest.mark.parametrize("length", [9, 7, 4])
def test_rows_of_another_end_where_its_own_end(length: int):
    mine, theirs = states(7), states(4, rows=2)
    layer = RoomyLayer(*mine)
    layer.join(RoomyLayer(*theirs), length)
    new = states(1, rows=7)
    for made, own, others, last in zip(layer.update(*new), mine, theirs, new, strict=True):
        kept = min(length, 7)
        assert torch.equal(made[:5, :, length - kept : length], own[:, :, 7 - kept :])
        assert torch.equal(made[5:, :, length - 4 : length], others)
        assert torch.equal(made[:, :, length:], last)
        assert not made[:5, :, : length - kept].any()
        assert not made[5:, :, : length - 4].any()
    assert layer.own_length == length + 1


def test_only_the_plainest_layers_are_replaced():
    cache = DynamicCache()
    cache.layers = [DynamicLayer(), DynamicSlidingWindowLayer(sliding_window=4)]
    for layer in cache.layers:
        layer.update(*states(3))
    make_room(cache)
    assert [type(layer) for layer in cache.layers] == [RoomyLayer, DynamicSlidingWindowLayer]
