"""A task's YAML file: what is refused, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from align.errors import Mistakes, UserError
from align_eval.records import Item
from align_eval.tasks.files import task_of
from align_eval.tasks.items import drawn, items_of
from align_eval.tasks.task import load, task_names

YAML = """\
name: mine
version: 3
rows: rows.jsonl
prompt: "{{ a }} + {{ b }} ="
reference: "{{ a + b }}"
extract: {flexible: {by: final_answer}}
score: {by: math}
headline: accuracy_flexible
"""


def task_in(folder: Path, text: str = YAML, rows: str = '{"a": 1, "b": 2}\n{"a": 20, "b": 3}\n') -> Path:
    (folder / "rows.jsonl").write_text(rows)
    (folder / "mine.yaml").write_text(text)
    return folder / "mine.yaml"


def test_rows_become_items(tmp_path: Path):
    items = items_of(load(str(task_in(tmp_path))))
    assert [(i.id, i.prompt, i.reference) for i in items] == [
        ("mine/0", "1 + 2 =", "3"),
        ("mine/1", "20 + 3 =", "23"),
    ]


def test_rows_of_other_purposes_ask_and_do_not_answer(tmp_path: Path):
    asked, said = {"role": "user", "content": "Tea?"}, {"role": "assistant", "content": "Warm."}
    rows = [{"messages": [asked, said]}, {"messages": [asked]}, {"instruction": "Mend.", "input": "He go."},
            {"instruction": "Sing.", "input": ""}, {"question": "Why?", "input": "x"},
            {"prompt": "a", "chosen": "b", "rejected": "c", "id": "z"}]  # fmt: skip
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    found = items_of(task_of(str(path)))
    assert [item.prompt for item in found] == [[asked], [asked], "Mend.\nHe go.", "Sing.", "Why?", "a"]
    assert [item.id for item in found] == [*(f"mine/{i}" for i in range(5)), "mine/z"]
    path.write_text(json.dumps({"messages": [said]}) + "\n")
    with pytest.raises(UserError, match="row 1: messages asks nothing: it has no turn but the answer"):
        items_of(task_of(str(path)))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("prompt:", "promt:", "mine.yaml: promt: no such key. Did you mean prompt?"),
        ("version: 3", "version: three", "mine.yaml: version: found the text 'three'; expected a whole number"),
        ("{by: math}", "{by: maths}", "score.by: found the text 'maths'; expected one of math, text"),
        ("{by: final_answer}", "{by: after}", "extract.flexible.marker: missing; by: after needs it"),
        ("{by: final_answer}", "{by: afte}", "extract.flexible.by: found the text 'afte'"),
        ("{flexible: {by: final_answer}}", "{}", "extract: missing; score.by: math needs one"),
        ("{by: math}", "{by: choice}", "mode: found write; score.by: choice needs choose"),
        ("headline: accuracy_flexible", "headline: acuracy", "headline: found acuracy"),
    ],
)
def test_mistakes_are_told_with_their_key(tmp_path: Path, old: str, new: str, told: str):
    path = task_in(tmp_path, YAML.replace(old, new))
    with pytest.raises(Mistakes) as caught:
        load(str(path))
    assert told in str(caught.value)


def test_all_mistakes_are_told_at_once(tmp_path: Path):
    path = task_in(tmp_path, YAML.replace("rows:", "row:").replace("version: 3", "version: 0"))
    with pytest.raises(Mistakes) as caught:
        load(str(path))
    assert len(caught.value.messages) >= 2


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ('{"a": 1}\n', "row 1: mine: prompt: 'b' is undefined; the row has a"),
        ('{"a": 1, "b": 2}\nx\n', "rows.jsonl: line 2: no JSON"),
        ("[1]\n", "line 1: expected an object, found list"),
    ],
)
def test_a_row_that_does_not_fit_is_named(tmp_path: Path, rows: str, told: str):
    with pytest.raises(UserError, match=told):
        items_of(load(str(task_in(tmp_path, rows=rows))))


def test_a_template_cannot_reach_what_is_not_its_row(tmp_path: Path):
    path = task_in(tmp_path, YAML.replace("{{ a }} +", "{{ ''.__class__.__mro__ }} +"))
    with pytest.raises(UserError, match="unsafe"):
        items_of(load(str(path)))


def test_an_unknown_task_gets_a_suggestion():
    with pytest.raises(UserError, match="Did you mean gsm8k"):
        load("gsm8")


@pytest.mark.parametrize("name", task_names())
def test_tasks_that_ship_can_be_read_and_name_their_licence(name: str):
    task = load(name)
    assert task.name == name
    assert task.licence
    assert task.source
    assert task.rows_file.is_file()
    assert items_of(task, limit=3)


def test_worked_examples_stand_before_the_question():
    """The first two of gsm8k's training split, whose answers are 72 and 10."""
    item = items_of(load("gsm8k"), shots=2, limit=1)[0]
    before = str(item.prompt).split("Question: ")
    assert len(before) == 4
    assert before[1].rstrip().endswith("#### 72")
    assert before[2].rstrip().endswith("#### 10")
    assert "<<" not in str(item.prompt)


def test_worked_examples_are_of_the_items_own_kind():
    for item in items_of(load("bbh"), limit=27):
        if item.category == "word_sorting":
            assert str(item.prompt).count("Sort the following words") == 4
    with pytest.raises(UserError, match="has 3 worked examples with task"):
        items_of(load("bbh"), shots=4, limit=1)


def test_a_part_keeps_the_shares_of_the_categories():
    """60, 30 and 10 of a hundred: ten of them are 6, 3 and 1; of seven, 4.2, 2.1 and 0.7 become 4, 2 and 1."""
    items = [Item(id=str(i), prompt="", category="a" if i < 60 else "b" if i < 90 else "c") for i in range(100)]
    for limit, shares in ((10, (6, 3, 1)), (7, (4, 2, 1))):
        part = drawn(items, limit, 0)
        assert tuple(sum(i.category == c for i in part) for c in "abc") == shares
        assert part == drawn(items, limit, 0)
        assert part != drawn(items, limit, 1)
