"""What a user gets wrong in data, by the real command: one message with place, finding and cure."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from mistakes import ANSWERED, ASKED, ROW, Told, assert_nothing_was_begun, dump, pairs

from align.cli.main import main


def test_rows_that_are_not_there(told: Told):
    assert "data.train: row.jsonl: no such file. Did you mean rows.jsonl?" in told("data.train=row.jsonl")
    message = told("data.train=asset:polite_pairs/trian.jsonl")
    assert "Did you mean asset:polite_pairs/train.jsonl?" in message
    assert "tokenizer_config" not in message, "a model's files are no data sets"
    Path("folder.jsonl").mkdir()
    message = told("data.train=folder.jsonl")
    assert "folder.jsonl: this folder was not made by datasets.save_to_disk; accepted: FILE" in message
    Path("empty.jsonl").touch()
    assert "data.train: empty.jsonl: the data set is empty" in told("data.train=empty.jsonl")
    Path("empty.json").write_text("[]")
    assert "data.train: empty.json: the data set is empty" in told("data.train=empty.json")
    assert_nothing_was_begun()


BAD_ROWS = [
    ("dpo", {"prompt": "a", "rejected": "b"},
     "no `chosen`; the row has prompt, rejected. Map one of them with data.columns.chosen"),
    ("dpo", {"prompt": "a", "chosen": "b", "rejected": "b"},
     "`chosen` equals `rejected`: there is no preference in this row"),
    ("dpo", {"text": "a"}, "no `chosen`; the row has text"),
    ("dpo", {"chosen": [ASKED, ANSWERED, ASKED], "rejected": [ASKED, {**ANSWERED, "content": "No."}]},
     "`chosen` ends with a user turn where an assistant turn is needed; drop the last message"),
    ("sft", {"messages": [ASKED, ANSWERED, ASKED]},
     "`messages` ends with a user turn where an assistant turn is needed"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "row", "finding"), BAD_ROWS)
def test_a_bad_row_is_named_wherever_it_stands(method: str, row: dict[str, Any], finding: str, told: Told):
    words = ("data.train=bad.jsonl", f"method.name={method}")
    dump("bad.jsonl", row)
    assert f"bad.jsonl: row 1: {finding}" in told(*words)
    dump("bad.jsonl", *pairs(4, completion="Four."), row)
    message = told(*words)
    assert f"bad.jsonl: row 5: {finding}" in message
    assert "1 of 5 rows cannot be used; correct them, or set data.bad_rows: drop" in message
    assert_nothing_was_begun()


def test_what_the_first_row_leaves_unused_and_what_no_template_reads_is_told(capsys: pytest.CaptureFixture[str]):
    dump("rows.jsonl", *pairs(8, history=[["Hello?", "Good day."]]))
    Path("t.jinja").write_text("{{ messages[0].content if thinking else '' }}")
    assert main(["check", "mine.yaml"]) == 0
    told = "note: rows.jsonl: row 1: the column `history` looks like part of the dialogue and is not used"
    assert told in capsys.readouterr().out
    assert main(["check", "mine.yaml", "data.chat_template=t.jinja", "data.chat_template_kwargs={thinkin: true}"]) == 2
    assert "data.chat_template_kwargs.thinkin: the chat template reads nothing of this name" in capsys.readouterr().err


def test_overlong_rows_are_told_with_their_lengths(told: Told):
    dump("rows.jsonl", *pairs(6), *pairs(2, prompt="word " * 100))
    message = told()
    assert "data.max_length: 2 of 8 rows (25%) do not fit into 64 tokens with data.overlong: drop" in message
    assert "or data.overlong: cut_prompt or cut_completion" in message
    assert_nothing_was_begun()


@pytest.mark.parametrize(
    ("columns", "finding"),
    [
        ("{prompt: '{promt}'}", "data.columns.prompt: rows.jsonl has no column promt; it has prompt, chosen, rejected"),
        ("{prompt: '{}'}", "data.columns.prompt: empty braces in '{}'; name a column between them"),
        ("{prompt: '{prompt'}", "data.columns.prompt: expected '}' before end of string"),
        ("{promt: prompt}", "data.columns.promt: no such column; accepted: text, messages"),
    ],
)
def test_columns_that_are_not_there(columns: str, finding: str, told: Told):
    assert finding in told(f"data.columns={columns}")


def test_bytes_that_are_no_utf8_are_named_by_their_line(told: Told):
    line = json.dumps(ROW).encode() + b"\n"
    cafe = json.dumps({**ROW, "prompt": "A café au lait?"}, ensure_ascii=False).encode("cp1252")
    Path("windows.jsonl").write_bytes(line + cafe + b"\n")
    assert "windows.jsonl: line 2: byte 0xe9 is not UTF-8, near" in told("data.train=windows.jsonl")
    Path("windows.csv").write_bytes(b"prompt,chosen,rejected\na,b,c\ncaf\xe9,b,c\n")
    message = told("data.train=windows.csv")
    assert "windows.csv: line 3: byte 0xe9 is not UTF-8, near 'café,b,c'; save the file as UTF-8" in message
    Path("windows.jsonl.gz").write_bytes(gzip.compress(line * 3 + cafe))
    assert "windows.jsonl.gz: line 4: byte 0xe9" in told("data.train=windows.jsonl.gz")


def test_what_is_called_gz_and_is_none(told: Told):
    Path("rows.jsonl").rename("plain.jsonl.gz")
    assert "plain.jsonl.gz: cannot be read: not a whole gzip file: " in told("data.train=plain.jsonl.gz")
    Path("cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode() * 50)[:40])
    assert "cut.jsonl.gz: cannot be read: not a whole gzip file: " in told("data.train=cut.jsonl.gz")


def test_marks_windows_line_ends_and_blank_lines_are_no_mistake(capsys: pytest.CaptureFixture[str]):
    rows = b"".join(json.dumps(row).encode() + b"\r\n" for row in pairs(8))
    Path("rows.jsonl").write_bytes(b"\xef\xbb\xbf" + rows + b"\r\n\r\n\n")
    assert main(["train", "mine.yaml", "training.max_steps=1"]) == 0
    assert "tokens for the first 8 rows" in capsys.readouterr().out


def test_half_a_character_is_told_or_dropped(told: Told):
    dump("rows.jsonl", *pairs(8), {**ROW, "prompt": "a lone \ud83d here"})
    message = told()
    assert "rows.jsonl: row 9: has '\\ud83d', half of a character, near 'a lone \\ud83d here" in message
    assert "1 of 9 rows cannot be used; correct them, or set data.bad_rows: drop" in message
    assert told("data.bad_rows=drop", "training.max_steps=1", code=0) == ""


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_lists_that_are_nested_without_end_are_told(name: str, told: Told):
    deep = json.dumps({**ROW, "prompt": "DEEP"}).replace('"DEEP"', "[" * 90_000 + "]" * 90_000)
    for rows in ([deep], [json.dumps(ROW), deep]):
        Path(name).write_text("[" + ", ".join(rows) + "]" if name == "a.json" else "\n".join(rows))
        assert f"{name}: row {len(rows)}: its objects are nested too deeply" in told(f"data.train={name}")


def test_shares_that_hold_no_row_are_told(told: Told, capsys: pytest.CaptureFixture[str]):
    message = told("data.validation=1e-6", "training.eval_steps=1", "training.load_best_model_at_end=true")
    assert "data.validation: no row is held out by 1e-06 (8 are trained on), which " in message
    assert "training.load_best_model_at_end, training.eval_steps needs; name a larger share" in message
    assert_nothing_was_begun()
    assert main(["train", "mine.yaml", "data.test=1e-6", "training.max_steps=1"]) == 0
    assert "test: no row is held out by data.test: 1e-06" in capsys.readouterr().out
