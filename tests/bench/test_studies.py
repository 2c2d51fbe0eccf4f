"""The tables of README.md and STUDIES.md are those of the committed summary."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import eval_study, psft_study
from tests.bench.online_study import MARKS, SEEDS, STORIES, TITLES, all_cells, read, spread, table
from tests.bench.psft_study import METHODS, RATES


def test_every_cell_has_been_run():
    assert [(c["world"], c["method"], c["seed"]) for c in read()] == all_cells()


@pytest.mark.parametrize("method", STORIES)
def test_the_story_methods_earn_more_than_before_by_far_more_than_chance(method: str):
    cells = [c for c in read() if (c["world"], c["method"]) == ("stories", method)]
    assert len(cells) == len(SEEDS)
    assert all(c["after"] - c["before"] > 4 * c["stderr"] for c in cells)


def test_the_tables_show_the_summary(repository: Path):
    studies, readme = ((repository / name).read_text(encoding="utf-8") for name in ("STUDIES.md", "README.md"))
    for world in TITLES:
        assert table(read(), world) in studies
    assert readme.split(MARKS[0])[1].split(MARKS[1])[0] == table(read(), "stories")


def test_a_spread_is_the_mean_and_its_standard_error():
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 0.577"
    assert spread([0.5], 1) == "0.5"


def test_the_table_of_proximal_sft_shows_its_summary(repository: Path):
    found = psft_study.summary()
    cells = [(rate, method, seed) for rate in RATES for method in METHODS for seed in SEEDS]
    assert [(c["rate"], c["method"], c["seed"]) for c in found["cells"]] == cells
    assert psft_study.section() in (repository / "STUDIES.md").read_text(encoding="utf-8")


def test_intervals_hold_the_truth_as_often_as_they_say(repository: Path):
    found = eval_study.summary()
    assert [(c["number"], c["world"], c["n"]) for c in found] == eval_study.all_cells()
    for cell in found:
        if cell["number"] == "gate":
            assert cell["anytime"] <= 0.05 or cell["world"] != "no better"
        else:
            assert 0.93 <= cell["held"] <= 0.97, cell
    assert eval_study.section() in (repository / "STUDIES.md").read_text(encoding="utf-8")
