"""Pairs whose prompt is what both answers begin with, and what is told of rows that cannot be read."""

from __future__ import annotations

import random
from typing import Any

import pytest
from small_runs import write_rows
from transformers import AutoTokenizer
from trl.data_utils import extract_prompt

from align.assets import asset
from align.data.prepare import prepare
from align.data.reading.messages import BadRow
from align.data.reading.rows import Row, RowReader
from align.data.reading.sources import HUB_NAME
from align.data.settings import DataSection, DataSource
from align.data.text.template import PLAINLY
from align.errors import UserError

TALK = "\n\nHuman: How do I boil an egg?\n\nAssistant:"


def pair_of(chosen: Any, rejected: Any, **columns: Any) -> Row:
    return RowReader(kind="pairs").read({"chosen": chosen, "rejected": rejected, **columns})[0]


def test_a_prompt_inside_both_answers_is_found():
    row = pair_of(f"{TALK} Nine minutes.", f"{TALK} Ask somebody else.")
    assert (row.prompt, row.completions) == (TALK, (" Nine minutes.", " Ask somebody else."))
    assert "no prompt beside them" in row.told[0]


def test_texts_are_divided_as_trl_divides_them():
    draw = random.Random(0)
    for _ in range(500):
        shared = "x" + "".join(draw.choices("ab ", k=draw.randrange(6)))
        chosen, rejected = (shared + "".join(draw.choices("ab ", k=draw.randrange(5))) + "." for _ in "ab")
        if chosen == rejected or not (chosen.strip() and rejected.strip()):
            continue
        expected = extract_prompt({"chosen": chosen, "rejected": rejected})
        if not expected["prompt"].strip() or not (expected["chosen"].strip() and expected["rejected"].strip()):
            continue
        row = pair_of(chosen, rejected)
        assert (row.prompt, *row.completions) == (expected["prompt"], expected["chosen"], expected["rejected"])


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"chosen": "Yes.", "rejected": "No."}, "do not begin alike"),
        ({"chosen": "I do.", "rejected": "I don't.", "question": "Do you?"}, "no `prompt`; the row has"),
        ({"prompt": "a", "chosen": None, "rejected": "b"}, "`chosen` is null"),
        ({"prompt": "a", "chosen": "b", "rejected": None}, "`rejected` is null"),
    ],
)
def test_what_is_no_pair_is_told(row: dict[str, Any], told: str):
    with pytest.raises(BadRow, match=told):
        RowReader(kind="pairs").read(row)


def test_a_null_answer_is_told():
    with pytest.raises(BadRow, match="`completion` is null"):
        RowReader(kind="demonstrations").read({"prompt": "a", "completion": None})


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        ("pairs", {"prompt": "chosen"}),
        ("pairs", {"prompt": "{question} {chosen}"}),
        ("pairs", {"prompt": "best", "chosen": "best"}),
        ("demonstrations", {"prompt": "text", "completion": "text"}),
    ],
)
def test_an_answer_is_not_its_own_prompt(kind: Any, columns: dict[str, str]):
    with pytest.raises(UserError, match=r"data\.columns\.prompt: reads \w+, which is the answer"):
        RowReader(kind=kind, columns=columns)


def test_prompts_alone_may_come_from_a_conversation():
    talk = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]
    row = RowReader(kind="prompts", columns={"prompt": "chosen"}).read({"chosen": talk})[0]
    assert row.prompt == talk[:1]


def test_a_model_without_a_template_is_told(tmp_path: Any, tokenizer: Any):
    talk = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Good day."}]}
    section = DataSection(train=write_rows(tmp_path / "talk.jsonl", [talk]), max_length=128)
    found = prepare(section, "demonstrations", (), tokenizer, tmp_path / "cache")
    assert PLAINLY in found.notes
    plain = DataSection(train=write_rows(tmp_path / "text.jsonl", [{"text": "Good day."}]), max_length=128)
    assert PLAINLY not in prepare(plain, "demonstrations", (), tokenizer, tmp_path / "cache").notes
    tools = {**talk, "tools": [{"name": "clock"}]}
    section = DataSection(train=write_rows(tmp_path / "tools.jsonl", [tools]), max_length=128)
    with pytest.raises(UserError, match="the tokenizer has none, and the plain one no form for tools"):
        prepare(section, "demonstrations", (), tokenizer, tmp_path / "cache")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(str(asset("asset:stories260k")))


def test_all_rows_of_several_sources_may_be_put_together(tmp_path: Any, tokenizer: Any):
    sources = [
        DataSource(source=write_rows(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i}."} for i in range(count)]))
        for name, count in (("few", 3), ("many", 9))
    ]
    shares = {}
    for mixture in ("shares", "rows"):
        section = DataSection(train=sources, mixture=mixture, max_length=64)
        shares[mixture] = prepare(section, "demonstrations", (), tokenizer, tmp_path / "cache").mixture(0).shares()
    assert shares == {"shares": (6, 6), "rows": (3, 9)}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("owner/name", ("owner/name", None, None, None)),
        ("owner/name:config", ("owner/name", None, "config", None)),
        ("owner/name[train_prefs]", ("owner/name", None, None, "train_prefs")),
        ("owner/name@v1.0:config", ("owner/name", "v1.0", "config", None)),
        ("name:config[train[:10%]]", None),
        ("owner/name:config[test]", ("owner/name", None, "config", "test")),
    ],
)
def test_a_split_of_the_hub_is_named_in_brackets(name: str, parts: tuple[str, ...] | None):
    found = HUB_NAME.fullmatch(name)
    assert (found and found.groups()) == parts
