"""What a completion wins, less what its tokens are charged from each of them on."""

from __future__ import annotations

import math

import torch

from align.functional.games import win_advantages


def test_each_token_pays_for_itself_and_for_those_behind_it() -> None:
    # Won 0.9 - 0.5 = 0.4. The last token is charged 0.1, the first 0.2 more; the one between is not ours.
    mask, charged = torch.tensor([[True, False, True, False]]), torch.tensor([[0.2, math.nan, 0.1, 9.0]])
    found = win_advantages(torch.tensor([0.9]), charged, mask)
    torch.testing.assert_close(found, torch.tensor([[0.1, 0.0, 0.3, 0.0]]))


def test_an_even_game_without_a_charge_teaches_nothing() -> None:
    mask = torch.tensor([[True, True], [False, False]])
    assert not win_advantages(torch.tensor([0.5, 0.9]), torch.zeros(2, 2), mask).any()
