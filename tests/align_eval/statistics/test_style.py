"""Style is counted as one reads it, and a world where style buys wins is seen through."""

from __future__ import annotations

import numpy as np
import pytest

from align_eval.statistics.bradley_terry import fit
from align_eval.statistics.resampling import Resampling
from align_eval.statistics.style import FEATURES, StyledGames, fit_style, style_gaps, style_of

FEW = Resampling(num=40)


@pytest.mark.parametrize(
    ("text", "style"),
    [("", (0, 0, 0, 0)), ("one two", (2, 0, 0, 0)), ("# A\n## B\n#no", (5, 2, 0, 0)),
     ("- a\n* b\n  12. c\n-no", (7, 0, 3, 0)), ("**a** b __c d__ ** e", (6, 0, 0, 2)),
     ("x\n```\n# no\n- no\n**no**\n```\n- yes", (10, 0, 1, 0)), ("```\n# open", (3, 0, 0, 0))],
)  # fmt: skip
def test_style_of_a_text(text: str, style: tuple[int, ...]):
    assert style_of(text) == style


def test_gaps_by_hand():
    """Words 30 and 10: 20 / 40. Headers 3 of 31 and 0: (3/31) / (3/31 + 1). Two empty answers differ in nothing."""
    found = style_gaps(np.array([[30, 3, 0, 2], [0, 0, 0, 0]]), np.array([[10, 0, 0, 2], [0, 0, 0, 0]]))
    bold = (2 / 31 - 2 / 11) / (2 / 31 + 2 / 11 + 1)
    assert found[0] == pytest.approx([0.5, (3 / 31) / (3 / 31 + 1), 0.0, bold])
    assert not found[1].any()


def world(strengths: np.ndarray, beta: np.ndarray, shift: np.ndarray, prompts: int) -> StyledGames:
    """Every two models on every prompt; a model's style is `shift` of itself plus noise, in standard deviations."""
    random = np.random.default_rng(0)
    size = len(strengths)
    pairs = [(i, a, b) for i in range(prompts) for a in range(size) for b in range(a + 1, size)]
    item, first, second = (np.array(column) for column in zip(*pairs, strict=True))
    style = shift[None, :, None] + random.normal(size=(prompts, size, len(FEATURES)))
    gaps = style[item, first] - style[item, second]
    games = StyledGames(num_models=size, item=item, first=first, second=second, earned=np.zeros(len(item)), gaps=gaps)
    logits = strengths[first] - strengths[second] + games.scaled(centred=False) @ beta
    earned = (random.random(len(item)) < 1 / (1 + np.exp(-logits))).astype(float)
    return StyledGames(num_models=size, item=item, first=first, second=second, earned=earned, gaps=gaps)


def test_strengths_are_found_where_style_has_bought_wins():
    """The weakest writes most: raw it leads, at equal style it is last."""
    strengths, beta = np.array([0.5, 0.0, -0.5]), np.array([1.0, 0.4, 0.0, -0.2])
    games = world(strengths, beta, np.array([0.0, 1.0, 2.0]), 3_000)
    found = fit_style(games, FEW)
    errors = found.logs[1:].std(0)
    assert (np.abs(found.logs[0] - strengths) < 4 * errors).all()
    assert (errors < 0.1).all()
    assert found.beta[0] == pytest.approx(beta, abs=0.1)
    assert found.raw[0].argmax() == 2
    assert found.logs.shape == (41, 3)
    centred = fit_style(games, FEW, centred=True)
    assert centred.logs[0] != pytest.approx(found.logs[0], abs=0.05)


def test_raw_is_bradley_terry_with_its_prior():
    games = world(np.array([0.5, 0.0, -0.5]), np.zeros(4), np.zeros(3), 50)
    wins = np.zeros((3, 3))
    np.add.at(wins, (games.first, games.second), games.earned)
    np.add.at(wins, (games.second, games.first), 1 - games.earned)
    logs = fit(wins).logs
    assert fit_style(games, FEW).raw[0] == pytest.approx(logs - logs.mean(), abs=1e-8)
