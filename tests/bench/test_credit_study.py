"""The study of credit: its figures by hand, and its tables those of the committed summary."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from align.recipe.load import load_recipe
from tests.bench.credit_study import VARIANTS, all_cells, key, of_problem, read, words_of
from tests.bench.credit_tables import cost_of, earned_at, paired, section, spread, verdict


def cell(points: list[tuple[float, float]], **given: Any) -> dict[str, Any]:
    named = [{"samples": cost, "earned": earned} for cost, earned in points]
    return {"study": "credit", "variant": "ppo", "seed": 0, "points": named, **given}


RISING = cell([(10, 0.2), (20, 0.6), (40, 0.8)])


@pytest.mark.parametrize(("amount", "earned"), [(5, 0.2), (10, 0.2), (15, 0.4), (30, 0.7), (40, 0.8), (99, 0.8)])
def test_between_evaluations_what_is_earned_lies_on_a_line(amount: float, earned: float):
    assert earned_at(RISING, "samples", amount) == pytest.approx(earned)


def test_the_cost_is_that_of_the_first_evaluation_which_is_good_enough():
    assert cost_of(RISING, "samples", 0.6) == 20
    assert math.isinf(cost_of(RISING, "samples", 0.9))


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        ([1.0, 1.1, 0.9], "**held**"),
        ([-1.0, -1.1, -0.9], "**did not hold**"),
        ([1.0, -1.0, 0.5], "**could not be told** from chance"),
        ([5.0, -math.inf, 3.0], "**did not hold**"),
        ([5.0, math.inf, 3.0], "**held**"),
        ([math.nan, 1.0], "**could not be told**"),
        ([1.0], "**could not be told**"),
    ],
)
def test_a_claim_holds_where_it_is_two_standard_errors_ahead(ahead: list[float], said: str):
    assert verdict(ahead) == said


def test_differences_are_of_the_same_seed():
    ours = [cell([(1, e)], seed=s) for s, e in ((0, 0.5), (1, 0.7), (2, 0.9))]
    theirs = [cell([(1, e)], seed=s, variant="rloo") for s, e in ((2, 0.1), (0, 0.4))]
    found = paired([*ours, *theirs], "credit", "ppo", "rloo", lambda c: c["points"][0]["earned"])
    assert found == pytest.approx([0.1, 0.8])


def test_what_was_never_reached_is_counted_and_not_averaged():
    assert spread([1.0, math.inf, 3.0]) == "2 of 3 seeds"
    assert spread([1000.0, 3000.0], 0) == "2,000 ± 1,000"


def test_the_reward_of_a_problem_is_a_whole_number_that_the_answer_does_not_change():
    prompts = [f"{n:02}+41=" for n in range(40)]
    one, other = of_problem(prompts, ["2131"] * 40), of_problem(prompts, [""] * 40)
    assert one == other
    assert set(one) <= set(map(float, range(8)))
    assert len(set(one)) > 4


@pytest.mark.parametrize(("study", "variant"), [(s, v) for s, of in VARIANTS.items() for v in of])
def test_every_cells_command_is_without_mistakes(study: str, variant: str, tmp_path: Path, repository: Path,
                                                  monkeypatch: pytest.MonkeyPatch):  # fmt: skip
    """The world of four digits is made by the study itself; that of two stands in for it."""
    monkeypatch.chdir(repository)
    assets, here = "asset:addition/", str(tmp_path / "world")
    words = [w.replace(f"{here}/policy", "asset:careless_adder").replace(f"{here}/", assets)
             for w in words_of(study, variant, tmp_path)]  # fmt: skip
    recipe, *overrides = words
    assert load_recipe(recipe, overrides).output_dir


def test_the_tables_show_the_summary(repository: Path):
    cells = read()
    assert {key(c) for c in cells} <= set(all_cells())
    assert section(cells) in (repository / "STUDIES.md").read_text(encoding="utf-8")
    assert section([]) == ""
