"""Which of several runs is best: ranked by their metric, and called so only beyond noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pages import read
from report.simulated import write_json, write_lines, write_run

from align.report.folder import Run, read_run
from align.report.measured.standings import errors_of, lines, standings
from align.report.page import write
from align.report.text import MINUS

COMPARED = {"training__metric_for_best_model": "accuracy", "training__greater_is_better": True}


def measured(rows: list[float]) -> dict[str, Any]:
    """Error by hand where it matters: of k hits in 100 it is sqrt(k/100 (1 - k/100) / 99)."""
    mean = sum(rows) / len(rows)
    return {"value": mean, "stderr": (mean * (1 - mean) / (len(rows) - 1)) ** 0.5, "n": len(rows), "rows": rows}


def run(folder: Path, hits: int, **changes: Any) -> Path:
    """The first `hits` of 100 rows are right."""
    write_run(folder, **COMPARED | changes)
    write_json(folder / "test.json", {"accuracy": measured([1.0] * hits + [0.0] * (100 - hits))})
    return folder


def runs(tmp_path: Path, **hits: int) -> list[Run]:
    return [read_run(run(tmp_path / name, count)) for name, count in hits.items()]


def test_the_best_is_marked_where_it_is_ahead_of_every_other_beyond_noise(tmp_path: Path) -> None:
    found = standings(runs(tmp_path, low=60, high=90, middle=75))
    assert found is not None
    assert [(one.run.name, one.place) for one in found.ranked] == [("high", "best"), ("middle", ""), ("low", "")]
    gap = found.ranked[1].gap
    assert gap is not None
    # 15 rows differ by 1, 85 not: mean 0.15, variance 0.15 * 0.85 * 100 / 99, error its root over 10
    assert gap.value == pytest.approx(-0.15)
    assert gap.stderr == pytest.approx((0.15 * 0.85 / 99) ** 0.5)
    assert found.ranked[1].paired


def test_nothing_is_marked_within_noise(tmp_path: Path) -> None:
    found = standings(runs(tmp_path, first=90, second=88, far=40))
    assert found is not None
    level = "not told apart from the first"  # 2 rows of 100 differ: 0.02 against an error of 0.014, ratio 1.4
    assert [one.place for one in found.ranked] == ["", level, ""]
    told = list(lines([one.run for one in found.ranked]))
    assert told[0] == "Accuracy on test rows, the best first:"
    assert told[2].startswith(f"  second: 88 ± 3 %; {MINUS}2.0 ± 1.4 points; not told apart")
    assert "one other is within 2.3 standard errors of the first" in told[-2]


def test_among_many_more_is_asked_of_the_first() -> None:
    """Two errors are passed by chance in 4.55 % of cases, to one side 2.28 %; of ten others each has a tenth of it."""
    assert errors_of(1) == 2.0
    assert errors_of(2) == pytest.approx(2.277, abs=1e-3)  # the normal quantile of 1 - 0.02275 / 2
    assert errors_of(10) == pytest.approx(2.837, abs=1e-3)


def test_smaller_is_better_where_the_recipe_says_so(tmp_path: Path) -> None:
    changes = {"training__metric_for_best_model": "loss", "training__greater_is_better": False}
    made = [run(tmp_path / name, 50, **changes) for name in ("a", "b")]
    for folder, loss in zip(made, (0.9, 0.3), strict=True):
        write_json(folder / "test.json", {"loss": {"value": loss, "stderr": 0.1, "n": 100}})
    found = standings([read_run(folder) for folder in made])
    assert found is not None
    assert [one.run.name for one in found.ranked] == ["b", "a"]
    assert found.ranked[0].place == "best"  # 0.6 apart, by an error of 0.141
    assert not found.ranked[1].paired


def test_who_cannot_be_ranked_is_named_with_the_reason(tmp_path: Path) -> None:
    made = {name: run(tmp_path / name, 80) for name in ("whole", "cut", "unmeasured", "bad")}
    (made["cut"] / "outcome.json").unlink()
    write_json(made["unmeasured"] / "test.json", {"loss": {"value": 0.5, "stderr": 0.1, "n": 3}})
    write_json(made["bad"] / "test.json", {"accuracy": {"value": float("nan"), "stderr": 0.1, "n": 3}})
    found = standings([read_run(folder) for folder in made.values()])
    assert found is not None
    assert [one.run.name for one in found.ranked] == ["whole"]
    why = {run.name: text for run, text in found.left}
    assert why["cut"] == "stopped at step 120, in epoch 3 of 3"
    assert why["unmeasured"] == "was measured on validation rows alone"
    assert why["bad"] == "has no finite number"
    other = run(tmp_path / "other", 80, training__metric_for_best_model="margin")
    assert standings([read_run(other), read_run(made["whole"])]) is None


def test_runs_whose_losses_mean_different_things_are_ranked_by_what_means_the_same(tmp_path: Path) -> None:
    changes = {"training__metric_for_best_model": "loss", "training__greater_is_better": False}
    made = [run(tmp_path / f"beta={beta}", hits, method__beta=beta, **changes) for beta, hits in ((0.1, 60), (0.3, 90))]
    read_runs = [read_run(folder) for folder in made]
    found = standings(read_runs)
    assert found is not None
    assert found.key == "accuracy"
    assert [one.run.name for one in found.ranked] == ["beta=0.3", "beta=0.1"]
    assert "Not by loss, of which these runs mean different quantities." in "\n".join(lines(read_runs))
    for folder in made:
        write_json(folder / "test.json", {"loss": {"value": 0.5, "stderr": 0.1, "n": 100}})
        write_lines(folder / "metrics.jsonl", [{"step": 1, "loss": 0.5}])
    assert standings([read_run(folder) for folder in made]) is None


def test_the_page_of_a_sweep_ranks_its_cells_and_names_those_that_have_not_begun(tmp_path: Path) -> None:
    for name, hits in (("b=2", 90), ("b=1", 60), ("b=0", 70)):
        run(tmp_path / name, hits)
    (tmp_path / "sweep.yaml").write_text("values: {a.b: ['0', '1', '2', '3']}\ncells: ['b=0', 'b=1', 'b=2', 'b=3']\n")
    page = read(write([tmp_path]))
    assert "A sweep: 3 runs side by side" in page.words
    assert "Not begun yet, or failed before a step: b=3." in page.words
    ranked = page.words.split("Which is best")[1].split("Results on held-out rows")[0]
    assert [ranked.index(name) for name in ("b=2", "b=0", "b=1")] == sorted(map(ranked.index, ("b=2", "b=0", "b=1")))
    assert "90 ± 3 %" in ranked
    assert "ahead of each other by more than 2.3 standard errors" in ranked
    assert "chosen by these same rows" in ranked
    assert page.words.index("Differences are from b=0") > 0, "the grid's order"
    (tmp_path / "sweep.yaml").write_text("[")
    assert "sweep.yaml cannot be read" in read(write([tmp_path])).words
