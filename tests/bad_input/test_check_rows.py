"""What `align check` sees of the data beyond the first row, and of the machine: all that `train` would refuse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pandas
import pytest
from mistakes import ROW, dump, pairs

from align.cli.main import main
from align.data.settings import DataSource
from align.monitors.trackers import KNOWN
from align.recipe import look_at_rows as recipe_rows


def check(capsys: pytest.CaptureFixture[str], *words: str, code: int = 2) -> str:
    capsys.readouterr()
    assert main(["check", "mine.yaml", *words]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    assert ("no mistakes found" in out) == (code == 0)
    return err if code else out


HALF = {"prompt": ROW["prompt"], "chosen": ROW["chosen"]}


@pytest.mark.parametrize("odd", [HALF, ROW | {"chosen": 5}, ROW | {"rejected": ROW["chosen"]}, [1]])
def test_rows_beyond_the_first_are_looked_at(odd: Any, capsys: pytest.CaptureFixture[str]):
    dump("rows.jsonl", *pairs(5), odd, *pairs(2))
    assert "data.train: rows.jsonl: row 6: " in check(capsys)
    if odd != [1]:
        assert "all 8 rows were looked at; 1 of them will be dropped" in check(capsys, "data.bad_rows=drop", code=0)


def test_a_sample_is_spread_over_the_file_and_all_sees_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recipe_rows, "SAMPLE", 10)
    rows = pairs(30)
    rows[16] = HALF  # between those that are looked at: every third, from the first on
    dump("rows.jsonl", *rows)
    assert "data: rows.jsonl: 11 of about 30 rows were looked at (--all: all of them)" in check(capsys, code=0)
    told = check(capsys, "--all")
    assert "rows.jsonl: row 17: no `rejected`" in told
    assert "1 of 30 rows cannot be used; correct them, or set data.bad_rows: drop" in told
    said = check(capsys, "--all", "data.bad_rows=drop", code=0)
    assert "data: train: all 30 rows were looked at, 29 are kept" in said
    assert "note: train: 1 rows dropped that cannot be used" in said
    rows[15] = HALF
    dump("rows.jsonl", *rows)
    assert "row 16: no `rejected`" in check(capsys)
    assert "row 16" not in check(capsys, "data.num_rows=10", code=0)


def test_a_file_that_is_cut_short_is_seen_at_its_end(capsys: pytest.CaptureFixture[str]):
    text = Path(dump("rows.jsonl", *pairs(1500))).read_text()
    Path("rows.jsonl").write_text(text[:-20])
    assert "rows.jsonl: row 1500: not JSON" in check(capsys)


def test_held_out_rows_and_other_formats_are_looked_at(capsys: pytest.CaptureFixture[str]):
    dump("held.jsonl", *pairs(1), HALF)
    assert "data.validation: held.jsonl: row 2: no `rejected`" in check(capsys, "data.validation=held.jsonl")
    Path("rows.csv").write_text("prompt,chosen,rejected\na,b,c\nd,e,e\n")
    assert "data.train: rows.csv: row 2: `chosen` equals `rejected`" in check(capsys, "data.train=rows.csv")


@pytest.mark.parametrize("place", ["rows.jsonl", "rows.jsonl/run", "/proc/nowhere/run"])
def test_an_output_folder_that_cannot_be_written_is_told(place: str, capsys: pytest.CaptureFixture[str]):
    assert f"training.output_dir: {place}: cannot be written: " in check(capsys, f"training.output_dir={place}")


def test_a_folder_that_holds_a_run_is_noted_and_nothing_is_left_in_a_new_one(capsys: pytest.CaptureFixture[str]):
    Path("run").mkdir()
    Path("run/recipe.yaml").touch()
    assert "note: run holds a run already, which goes on by --resume alone" in check(capsys, code=0)
    check(capsys, "training.output_dir=new/run", code=0)
    assert not Path("new").exists()


@pytest.mark.parametrize("tracker", KNOWN)
def test_a_tracker_that_is_not_installed_is_told(
    tracker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, KNOWN[tracker].module, None)
    assert "install it with: pip install 'align-hub[tracking]'" in check(capsys, f"logging.report_to=[{tracker}]")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv", "rows.jsonl.gz"])
def test_a_damaged_byte_far_into_a_file_is_named(name: str, capsys: pytest.CaptureFixture[str]):
    """Beyond what is read for the first row, and also for who only counts rows."""
    from align.recipe.look_at_data import count_rows

    rows = [ROW | {"prompt": f"{ROW['prompt']} {i}"} for i in range(1000)]
    whole = whole_file(name, rows)
    where = len(whole) * 4 // 5
    Path(name).write_bytes(whole[:where] + b"\xe5\xe5\xe5\xe5" + whole[where + 4 :])
    if name.endswith((".jsonl", ".csv")):
        assert count_rows(DataSource(source=name)) is None
    told = check(capsys, f"data.train={name}")
    assert name in told
    assert "is not UTF-8" in told or name.endswith(".gz")


def whole_file(name: str, rows: list[dict[str, Any]]) -> bytes:
    frame = pandas.DataFrame(rows)
    if name.endswith(".csv"):
        frame.to_csv(name, index=False)
    else:
        frame.to_json(name, orient="records", lines=".jsonl" in name)
    return Path(name).read_bytes()
