"""Charts, numbers in words, and the comparison of runs."""

from __future__ import annotations

import json
import math
import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from pages import read
from report.simulated import write_json, write_lines, write_pipeline, write_run

from align.report.curves import panels
from align.report.page import write
from align.report.parts.axes import Axis
from align.report.parts.charts import Chart, Series, chart
from align.report.parts.points import columns, moving_average, thin
from align.report.rows import binned, counts, histograms
from align.report.text import MINUS, amount, escape, method_label, short


def noisy(count: int, seed: int = 0) -> list[tuple[float, float]]:
    dice = random.Random(seed)
    return [(float(i), dice.gauss(0, 1)) for i in range(count)]


@pytest.mark.parametrize("count", [1, 299, 300, 301, 5000, 123_457])
def test_thinning_keeps_ends_and_extremes(count: int) -> None:
    points = noisy(count)
    kept = thin(points)
    assert len(kept) <= 302
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert all(most(y for _, y in kept) == most(y for _, y in points) for most in (max, min))
    assert kept == sorted(set(kept))
    assert set(kept) <= set(points)


def test_moving_average_keeps_lines_and_calms_noise() -> None:
    assert [y for _, y in moving_average([(float(i), 3.0) for i in range(300)])] == pytest.approx([3.0] * 300)
    slope = [(float(i), 2.0 * i) for i in range(300)]
    assert list(moving_average(slope))[10:-10] == [pytest.approx(p) for p in slope[10:-10]]
    smooth = [y for _, y in moving_average(noisy(3000))]
    # A mean of about 200 independent values of variance 1.
    assert math.sqrt(sum(y * y for y in smooth[200:-200]) / 2600) == pytest.approx(1 / math.sqrt(201), rel=0.35)
    assert [y for _, y in moving_average(noisy(10))] == pytest.approx([y for _, y in noisy(10)])


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (-3.7, 12.2), (1e-7, 9e-7), (99.999, 100.001), (-1e9, 1e9), (0, 3e-300)]
)
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = Axis(float(low), float(high), 0, 100).ticks(4)
    assert 2 <= len(ticks) <= 6
    slack = (high - low) * 1e-6
    assert all(low - slack <= t <= high + slack for t in ticks)
    gaps = [b - a for a, b in pairwise(ticks)]
    assert gaps == pytest.approx([gaps[0]] * len(gaps), rel=1e-3)


def test_values_that_only_rounding_holds_apart_are_drawn_at_one_height() -> None:
    told = Series(label="a", slot=1, line=[(1.0, -0.96), (12.0, -0.96)], dots=[(6.0, -0.9599999785, 0.0)])
    drawn = chart(Chart(title="reward", series=[told]))
    heights = {point[1] for point in re.findall(r"([\d.]+)[ ,]([\d.]+)", drawn.drawn[0].paths[0].d)}
    assert {str(dot.y) for dot in drawn.drawn[0].dots} == heights


def test_chart_stays_within_its_frame() -> None:
    line = [(float(i), y * 50) for i, y in enumerate(dict(noisy(400)).values())]
    dots = [(100.0, 3.0, 500.0), (300.0, -3.0, None)]
    drawn = chart(
        Chart(
            title="t",
            series=[Series(label="a", slot=0, line=line, smoothed=True), Series(label="b", slot=1, dots=dots)],
        )
    )
    paths = [path.d for one in drawn.drawn for path in one.paths] + [dot.whiskers for dot in drawn.drawn[1].dots]
    places = [place for path in paths for place in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]
    assert len(places) > 400
    for x, y in places:
        assert 48 <= float(x) <= 370
        assert 10 <= float(y) <= 188


def test_logarithmic_axis_is_for_spikes_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    assert "Gradient norm, logarithmic" not in read(write([run])).words
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[50]["grad_norm"] = 4000.0
    (run / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    assert "Gradient norm, logarithmic" in read(write([run])).words


def test_panels_stand_together() -> None:
    keys = [
        "zeal",
        "kl_k3",
        "seconds_score",
        "seconds_reward",
        "kl",
        "rejected_rewards",
        "loss",
        "chosen_rewards",
        "weight/a",
        "weight/b",
        "rewards/happy",
        "rewards/length",
        "desirable_logps",
        "undesirable_logps",
    ]
    found = panels(keys)
    by_function = ["rewards/happy", "rewards/length"]
    assert list(found) == [*by_function, "kl", "loss", "rewards", "logps", "zeal", "seconds", "weight"]
    assert found["kl"] == ["kl_k3", "kl"]
    assert found["seconds"] == ["seconds_score", "seconds_reward"]
    assert found["rewards"] == ["chosen_rewards", "rejected_rewards"]
    assert found["weight"] == ["weight/a", "weight/b"]
    assert sorted(k for of in found.values() for k in of) == sorted(keys)
    assert panels(["chosen_rewards"]) == {"chosen_rewards": ["chosen_rewards"]}


@pytest.mark.parametrize(
    ("value", "stderr", "share", "words"),
    [
        (0.8909, 0.0297, True, "89 ± 3 %"),
        (0.8909, 0.014, True, "89.1 ± 1.4 %"),
        (0.9, 0.0095, True, "90.0 ± 0.9 %"),
        (2.3119, 0.0421, False, "2.31 ± 0.04"),
        (-204.69, 15.02, False, f"{MINUS}205 ± 15"),
        (12345.6, 700.0, False, "12,346 ± 700"),
        (0.5, 0.0, True, "50 ± 0 %"),
        (0.5, None, True, "50.0 %"),
        (0.12345, None, False, "0.1235"),
        (3.0, float("nan"), False, "3"),
    ],
)
def test_amounts(value: float, stderr: float | None, share: bool, words: str) -> None:
    assert amount(value, stderr, share=share) == words


def test_small_and_large_numbers() -> None:
    assert [short(v) for v in (5e-5, 0.0, 1.0, 999.94, 123456.0)] == ["5e-5", "0", "1", "999.9", "123,456"]
    assert [method_label(n) for n in ("dpo", "simpo", "vc_ppo", "reward_model", "my.pack:Mine")] == [
        "DPO",
        "SimPO",
        "VC-PPO",
        "Reward model",
        "Mine",
    ]


def test_escape_keeps_scripts_and_emoji_readable() -> None:
    persian, family = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "👩\u200d👧"
    assert escape(persian + family) == persian + family
    assert escape("a\u200bb\r\n") == "a⟨U+200B⟩b⟨U+000D⟩\n"


def test_lengths_are_counted_once_each() -> None:
    lengths = [float(v) for v in (1, 1, 2, 5, 100, 7, 7, 7)]
    edges, bars = binned(lengths)
    assert sum(bars) == len(lengths)
    assert edges[0] <= 1
    assert edges[-1] > 100
    assert bars == [sum(a <= v < b for v in lengths) for a, b in pairwise(edges)]


def test_data_report_of_a_run_is_read() -> None:
    """The shape that training writes: splits, each with counts and three histograms."""
    bars = {"edges": [0, 4, 8], "counts": [3, 4]}
    split = {
        "split": "train",
        "source": "asset:p",
        "read": 9,
        "kept": 7,
        "dropped": {"cannot be used": 2},
        "shortened": 1,
    }
    tree = {"splits": {"train": split | {"prompt_lengths": bars, "lengths": bars}}, "notes": []}
    (found,) = counts(tree)
    assert (found.name, found.read, found.dropped, found.shortened) == ("asset:p, train", 9, 2, 1)
    assert [name for name, *_ in histograms(tree)] == ["train, prompt lengths", "train, whole lengths"]
    prompts_alone = {"edges": [0, 1, 2], "counts": [9, 0]}
    assert histograms({"train": {"completion_lengths": prompts_alone}}) == []


# ---- several runs ---------------------------------------------------------------------------------------------------


def test_comparison_tells_what_differs_and_pairs_rows(tmp_path: Path) -> None:
    first = write_run(tmp_path / "narrow", seed=1)
    second = write_run(tmp_path / "wide", seed=2, method__beta=0.5)
    page = read(write([first, second]))
    settings = page.words.split("Settings that differ")[1].split("Curves")[0]
    assert "method.beta 0.1 0.5" in settings
    assert "learning_rate" not in settings
    assert "paired" in page.words.split("Settings that differ")[0].replace("unpaired", "")
    rows = [json.loads((run / "test.json").read_text())["accuracy"]["rows"] for run in (first, second)]
    gaps = [b - a for a, b in zip(*rows, strict=True)]
    mean = sum(gaps) / len(gaps)
    error = math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    assert amount(mean * 100, error * 100, signed=True) + " points, paired" in page.words


def test_rows_of_other_data_are_not_paired(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", seed=1)
    second = write_run(tmp_path / "b", seed=2, data__train="other.jsonl")
    results = read(write([first, second])).words.split("Settings that differ")[0]
    assert "points, unpaired" in results
    assert "points, paired" not in results


def test_same_recipe_says_so_and_names_stay_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / parent / "dpo", seed=i) for i, parent in enumerate(("a", "b"))]
    words = read(write(runs, tmp_path / "x.html")).words
    assert "None: the recipes are the same." in words
    assert "a/dpo and b/dpo" in words


def test_overlaid_curves_have_each_runs_values(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seed=i, steps=60) for i, name in enumerate(("a", "b"))]
    ends = {one["points"][-1][1] for one in read(write(runs)).charts[0]["series"]}
    for run in runs:
        last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
        assert float(f"{last['loss']:.5g}") in ends
        assert float(f"{last['eval/loss']:.5g}") in ends


def test_pipeline_shows_its_summary_and_every_stage_in_order(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "quickstart")
    write_json(folder / "summary.json", {"dpo_accuracy": {"value": 0.9012, "stderr": 0.0284, "n": 110}})
    page = read(write([folder]))
    assert "DPO accuracy 90 ± 3 % on 110 rows" in page.words
    assert page.words.index("SFT predicts") < page.words.index("The reward model ranks") < page.words.index("DPO ranks")


def test_change_since_before_training_is_row_by_row(tmp_path: Path) -> None:
    run = write_run(tmp_path / "dpo")
    test = json.loads((run / "test.json").read_text())
    gaps = [a - b for a, b in zip(test["accuracy"]["rows"], test["before"]["accuracy"]["rows"], strict=True)]
    mean = sum(gaps) / len(gaps)
    error = math.sqrt(sum((g - mean) ** 2 for g in gaps) / (len(gaps) - 1) / len(gaps))
    assert f"52 ± 5 % {amount(mean * 100, error * 100, signed=True)} points 110 test" in read(write([run])).words


# ---- odd and many numbers -------------------------------------------------------------------------------------------

ODD = {
    "denormal": 5e-324, "nearly denormal": 1e-310, "negative": -5e-324, "negative zero": -0.0, "zero": 0.0,
    "nan": math.nan, "infinite": math.inf, "huge": 9e99, "one": 1.0, "minus huge": -9e99, "small": 1e-300,
}  # fmt: skip
METRICS = ("loss", "grad_norm", "accuracy", "eval/loss", "eval/loss_stderr", "reward", "kl", "margin")


def drawn(folder: Path, lines: list[dict[str, float]]) -> str:
    folder.mkdir()
    write_lines(folder / "metrics.jsonl", lines)
    return write([folder]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ODD)
def test_no_number_breaks_a_chart(tmp_path: Path, name: str) -> None:
    """Alone, thirty times before each of the others, and under the names that are read in sentences."""
    odd, others = ODD[name], {f"m{i}": other for i, other in enumerate(ODD.values())}
    lines = [{"step": x, **dict.fromkeys((*METRICS, *others), odd)} for x in range(30)]
    for n, points in enumerate((lines[:1], [lines[0], {"step": 1, **others}], [*lines, {"step": 30, **others}])):
        assert not re.search(r' (?:d|x|y|cx|cy)="[^"]*(?:nan|inf)', drawn(tmp_path / f"{n}", points))


@pytest.mark.parametrize("steps", [(5e-324, 1e-323), (9e99, 9e99), (1e16, 1e16 + 2), (-1, -2), (1, 9e99), (3,)])
def test_no_step_breaks_a_chart(tmp_path: Path, steps: tuple[float, ...]) -> None:
    page = drawn(tmp_path / "run", [{"step": x, "loss": 1.0} for x in steps])
    assert "nan" not in " ".join(re.findall(r' d="[^"]*"', page))


def test_an_error_below_the_places_that_are_shown_keeps_its_digits() -> None:
    assert amount(3.25e-10, 2e-11) == "3.25e-10 ± 2e-11".replace("-", MINUS)
    assert amount(1e-310, 5e-324) == "1e-310 ± 4.941e-324".replace("-", MINUS)


def test_columns_are_in_the_order_of_steps_whichever_lines_hold_them() -> None:
    found = columns([{"step": 1.0, "a": 1.0}, {"a": 2.0, "b": 5.0, "step": 2.0}, {"step": 3.0, "a": 3.0}])
    assert {key: list(curve) for key, curve in found.items()} == {"a": [(1, 1), (2, 2), (3, 3)], "b": [(2, 5)]}


def test_a_page_of_twenty_times_the_steps_is_not_much_larger(tmp_path: Path) -> None:
    lines = [[{"step": s, "loss": math.sin(s), "reward": math.cos(s)} for s in range(n)] for n in (1500, 30_000)]
    pages = []
    for few in lines:
        (folder := tmp_path / str(len(few))).mkdir()
        write_lines(folder / "metrics.jsonl", few)
        pages.append(write([folder]))
    assert pages[1].stat().st_size < 1.2 * pages[0].stat().st_size
    series = [one for spec in read(pages[1]).charts for one in spec["series"]]
    assert series
    assert all(len(one["points"]) <= 802 and len(one.get("means", ())) <= 400 for one in series)
