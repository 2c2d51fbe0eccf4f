"""The folder of an evaluation: what was appended is read back, by whoever wrote it, and what is wrong is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from align.errors import UserError
from align.judges.base import Verdict
from align.system.lines import safe_name
from align_eval.records import Answer, Item, Score
from align_eval.store import (
    append_answers,
    append_items,
    append_scores,
    append_verdicts,
    read_answers,
    read_items,
    read_scores,
    read_verdicts,
)

ITEMS = [
    Item(id="a", prompt="Why?", reference="so", category="talk"),
    Item(id="b", prompt=[{"role": "user", "content": "Wie \u2028 geht's?"}], columns={"level": 2}),
]
ANSWERS = [
    Answer(item="a", model="org/small", text="Because."),
    Answer(item="a", model="org/small", text="", sample=1, stop="length", num_tokens=0),
    Answer(item="b", model="org_small", text="Gut.\nSehr gut."),
]


def verdict(score: float | None, **more: object) -> Verdict:
    told = {"item": "a", "models": ("x/1", "y"), "judge": "rule/length", "order": "ab", **more}
    return Verdict(score=score, **told)  # type: ignore[arg-type]


def test_what_is_appended_is_read(tmp_path: Path) -> None:
    scores = [Score(item="a", model="org/small", metric="gsm8k", score=None, why="no number", columns={"found": []})]
    verdicts = [verdict(1.0, raw="[[A]]"), verdict(None, order="ba", why="no verdict")]
    append_items(tmp_path, ITEMS)
    append_answers(tmp_path, ANSWERS)
    append_scores(tmp_path, scores)
    append_verdicts(tmp_path, verdicts)
    told: list[str] = []
    assert read_items(tmp_path, told.append) == ITEMS
    assert sorted(read_answers(tmp_path, told.append), key=str) == sorted(ANSWERS, key=str)
    assert read_scores(tmp_path, told.append) == scores
    assert read_verdicts(tmp_path, told.append) == verdicts
    assert not told
    assert len(list(tmp_path.glob("answers/*.jsonl"))) == 2  # `org/small` and `org_small` are two models


def test_an_empty_folder(tmp_path: Path) -> None:
    assert read_answers(tmp_path) == []
    assert read_verdicts(tmp_path) == []
    with pytest.raises(UserError, match=r"has no items\.jsonl"):
        read_items(tmp_path)


def test_names_of_files() -> None:
    assert safe_name("plain-1_b") == "plain-1_b"
    assert safe_name("org/model").startswith("org_model-")
    assert safe_name("org/model") != safe_name("org_model")
    assert safe_name("../..").startswith("x-")
    assert "/" not in safe_name("a/b" * 500)
    assert len(safe_name("a" * 500)) < 100


@pytest.mark.parametrize("left", [b'{"item": "b", "mo', b"\0\0\0\0", b'{"item": "b"\n', b'{"item": "b", "text": NaN}'])
def test_a_torn_last_line_is_told(tmp_path: Path, left: bytes) -> None:
    append_answers(tmp_path, ANSWERS[:2])
    (file,) = tmp_path.glob("answers/*.jsonl")
    file.write_bytes(file.read_bytes() + left)
    told: list[str] = []
    assert read_answers(tmp_path, told.append) == ANSWERS[:2]
    assert len(told) == 1
    assert f"{file}:3: the last line is damaged" in told[0]


def test_this_process_does_not_write_behind_a_torn_line(tmp_path: Path) -> None:
    append_answers(tmp_path, ANSWERS[:1])
    (file,) = tmp_path.glob("answers/*.jsonl")
    file.write_bytes(file.read_bytes() + b'{"item"')
    append_answers(tmp_path, ANSWERS[1:2])
    told: list[str] = []
    assert read_answers(tmp_path, told.append) == ANSWERS[:2]
    assert not told


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("[1]", "is no JSON object (is a list"),
        ("{", "is no JSON object"),
        ('{"item": "a", "model": "m", "txt": "t"}', "no such key: txt; a row has item, model, text"),
        ('{"item": "a", "model": "m"}', "misses text"),
        ('{"item": 3, "model": "m", "text": "t"}', "item: found 3; expected a text"),
        ('{"item": "a", "model": "m", "text": "t", "sample": true}', "sample: found True; expected a whole number"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, line: str, finding: str) -> None:
    (tmp_path / "answers").mkdir()
    whole = '{"item": "b", "model": "m", "text": "t"}'
    (tmp_path / "answers/m.jsonl").write_text(f"{whole}\n{line}\n{whole}\n")
    with pytest.raises(UserError) as error:
        read_answers(tmp_path)
    assert "m.jsonl:2: " in str(error.value)
    assert finding in str(error.value)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"score": None}, "why is empty"),
        ({"order": ""}, "two models and no order"),
        ({"order": "aa"}, "order: found 'aa'"),
        ({"score": 7.5}, "score: found 7.5; expected 0 to 1"),
        ({"models": ["a", "b", "c"]}, "models: found"),
    ],
)
def test_a_verdict_that_says_nothing_is_refused(tmp_path: Path, change: dict[str, object], finding: str) -> None:
    (tmp_path / "verdicts").mkdir()
    row = {"item": "a", "models": ["x", "y"], "judge": "j", "order": "ab", "score": 1.0} | change
    (tmp_path / "verdicts/j.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UserError, match=r"j\.jsonl:1: ") as error:
        read_verdicts(tmp_path)
    assert finding in str(error.value)


def test_a_grade_may_be_any_number(tmp_path: Path) -> None:
    graded = Verdict(item="a", models=("x",), judge="j", score=9.5)
    append_verdicts(tmp_path, [graded])
    assert read_verdicts(tmp_path) == [graded]


def test_rows_that_are_there_twice(tmp_path: Path) -> None:
    (tmp_path / "verdicts").mkdir()
    append_verdicts(tmp_path, [verdict(1.0), verdict(1.0, order="ba")])
    (file,) = tmp_path.glob("verdicts/*.jsonl")
    (tmp_path / "verdicts/z.jsonl").write_bytes(file.read_bytes())
    told: list[str] = []
    assert len(read_verdicts(tmp_path, told.append)) == 2
    assert told == ["2 rows are there more than once; all say the same"]
    append_verdicts(tmp_path, [verdict(0.0)])
    told.clear()
    assert [v.score for v in read_verdicts(tmp_path, told.append)] == [1.0, 1.0]
    assert "1 differ, of which the first counts: a x/1/y rule/length ab" in told[0]
    assert f"{file}:1, {file}:3" in told[0]


def test_the_newest_revision_of_a_verdict_counts(tmp_path: Path) -> None:
    down = verdict(None, why="endpoint is down")
    append_verdicts(tmp_path, [verdict(0.0, revision=1), down, verdict(0.0, order="ba")])
    told: list[str] = []
    assert [v.score for v in read_verdicts(tmp_path, told.append)] == [0.0, 0.0]
    assert not told


def test_items_are_added_once(tmp_path: Path) -> None:
    append_items(tmp_path, ITEMS)
    append_items(tmp_path, [*ITEMS, Item(id="c", prompt="Why?")])  # the prompt of another item: ids alone must differ
    assert [item.id for item in read_items(tmp_path)] == ["a", "b", "c"]
    with pytest.raises(UserError, match="item 'c' is there with another reference"):
        append_items(tmp_path, [Item(id="c", prompt="Why?", reference="so")])


def test_two_processes_have_a_file_each(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from align_eval.store import append_answers;"
        "from align_eval.records import Answer;"
        "[append_answers(Path(sys.argv[1]), [Answer(item=str(i), model='m', text='t' * 9000)]) for i in range(100)]"
    )
    with_pool = [subprocess.Popen([sys.executable, "-c", program, str(tmp_path)]) for _ in range(2)]
    assert [process.wait() for process in with_pool] == [0, 0]
    told: list[str] = []
    assert len(read_answers(tmp_path, told.append)) == 100
    assert told == ["100 rows are there more than once; all say the same"]
    assert len(list(tmp_path.glob("answers/*.jsonl"))) == 2
