"""Every format gives the same rows, one at a time, and every broken one is named with its place."""

import csv
import gzip
import json
import sys
from pathlib import Path

import pytest

from align.data.reading import sources
from align.data.reading.sources import fingerprint, iterate, resolve
from align.data.settings import DataSource
from align.errors import UserError
from align.recipe.look_at_data import count_rows

ROWS = [
    {"id": "1", "prompt": 'Say "hello", twice\n', "chosen": "hello\u2028hello \u00e9\U0001f60a"},
    {"id": "2", "prompt": "[brackets] {and, commas}", "chosen": "\\ back \\u0041 slashes \\"},
    {"id": "3", "prompt": "", "chosen": "x" * 5000},
]


def write(path: Path) -> Path:
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
    elif name.endswith(".json"):
        text = json.dumps(ROWS, indent=1)
    else:
        with path.with_name("plain.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
        with path.with_name("plain.csv").open(encoding="utf-8", newline="") as stream:
            text = stream.read()
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz", "a.json.gz", "a.csv.gz"])
def test_text_formats_give_the_rows_that_were_written(tmp_path: Path, name: str) -> None:
    found = list(iterate(str(write(tmp_path / name))))
    assert [row for _, row in found] == ROWS
    assert [place.row for place, _ in found] == [1, 2, 3]


def test_parquet_and_saved_folders_give_the_rows_that_were_written(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    data = datasets.Dataset.from_list(ROWS)
    data.to_parquet(tmp_path / "a.parquet")
    data.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": data.select([0]), "test": data}).save_to_disk(str(tmp_path / "many"))
    assert [row for _, row in iterate(str(tmp_path / "a.parquet"))] == ROWS
    assert [row for _, row in iterate(str(tmp_path / "one"))] == ROWS
    assert [row for _, row in iterate(str(tmp_path / "many"), split="test")] == ROWS
    with pytest.raises(UserError, match=r"no split tset; there are train, test\. Did you mean test"):
        list(iterate(str(tmp_path / "many"), split="tset"))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_a_json_array_is_read_whatever_the_size_of_the_portions(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHUNK", chunk)
    rows = [{"a": {"b": [1, 2.5e3, None, True]}}, {"a": "]}, {"}, {"a": -1}]
    path = tmp_path / "a.json"
    path.write_text(" [" + " ,\n".join(json.dumps(r) for r in rows) + "\n]\n")
    assert [row for _, row in iterate(str(path))] == rows


def test_json_lines_may_be_called_json_have_a_mark_at_the_start_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('\ufeff{"a": 1}\n\n{"a": 2}\n', encoding="utf-8")
    assert [(p.row, r) for p, r in iterate(str(path))] == [(1, {"a": 1}), (3, {"a": 2})]


def test_rows_are_counted_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n " + json.dumps(ROWS, indent=1))
    write(tmp_path / "b.json.gz")
    (tmp_path / "c.json").write_text("\n" + "".join(json.dumps(row) + "\n" for row in ROWS))
    for name in ("a.json", "b.json.gz", "c.json"):
        assert count_rows(DataSource(source=str(tmp_path / name))) == len(ROWS), name


def test_only_the_first_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2}\nnot JSON\n')
    assert len(list(iterate(str(path), num_rows=2))) == 2


def test_a_long_array_is_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    row = json.dumps({"a": "x" * 10_000})
    path.write_text("[" + ",".join([row] * 2000) + "]")
    seen = max(len(sys.intern(r["a"])) for _, r in iterate(str(path)))
    assert seen == 10_000
    import tracemalloc

    tracemalloc.start()
    assert sum(1 for _ in iterate(str(path))) == 2000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 2


BROKEN = {
    "a.jsonl": ('{"a": 1}\n{"a": \n', r"a\.jsonl: row 2: not JSON"),
    "b.jsonl": ("[1, 2]\n", r"row 1: a row must be an object with named columns, found list"),
    "c.jsonl": ("", r"c\.jsonl: the data set is empty"),
    "a.json": ('[{"a": 1}, {"a": 2', r"row 2: not JSON: .*cut short"),
    "b.json": ('[{"a": 1}, {"a": 2}', r"row 2: not JSON: the array is not closed"),
    "c.json": ("[]", r"the data set is empty"),
    "d.json": ("no", r"neither a JSON array nor JSON lines"),
    "a.csv": ("a,b\n1,2\n1,2,3\n", r"a\.csv: row 2: has not 2 fields"),
    "b.csv": ('a,b\n1,"2\n', r"b\.csv: row 1: not CSV"),
    "a.parquet": ("PAR1 but not quite", r"not a readable Parquet file"),
    "a.jsonl.gz": ("not gzip at all", r"cannot be read"),
    "a.txt": ("words", r"unknown kind of file; accepted: FILE\.jsonl"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    text, message = BROKEN[name]
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        list(iterate(str(tmp_path / name)))


def test_a_gzip_file_cut_short_is_no_data_set(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(UserError, match="cannot be read"):
        list(iterate(str(path)))


def test_what_is_missing_is_named_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl")
    with pytest.raises(UserError, match=r"trian\.jsonl: no such file\. Did you mean train\.jsonl\?"):
        list(iterate(str(tmp_path / "trian.jsonl")))
    with pytest.raises(UserError, match=r"Did you mean asset:polite_pairs/train\.jsonl\?"):
        list(iterate("asset:polite_pair/train.jsonl"))
    with pytest.raises(UserError, match=r"was not made by datasets\.save_to_disk"):
        list(iterate(str(tmp_path)))
    with pytest.raises(UserError, match="no such file, and as a hub name: "):
        list(iterate("nobody/nothing"))


def test_a_file_has_no_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("train.jsonl"))
    with pytest.raises(UserError, match=r"train\.jsonl is here; a split of it is a file of its own"):
        resolve("train.jsonl[test]")
    Path("saved").mkdir()
    with pytest.raises(UserError, match=r"saved\[test\]: saved is here; a split of it is .*, or saved/test$"):
        resolve("saved[test]")
    assert resolve("owner/name[test]") is None


def test_the_fingerprint_is_of_the_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    one.write_text('{"a": 1}\n')
    two.write_text('{"a": 1}\n')
    before = fingerprint(str(one))
    assert before == fingerprint(str(two))
    one.write_text('{"a": 2}\n')
    assert fingerprint(str(one)) != before


def test_the_shipped_pairs_are_whole() -> None:
    assert sum(1 for _ in iterate("asset:polite_pairs/train.jsonl")) == 990
    assert sum(1 for _ in iterate("asset:polite_pairs/test.jsonl")) == 110
