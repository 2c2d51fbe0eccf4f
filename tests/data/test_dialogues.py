"""Dialogues as people's files have them: what they mean is learned, or it is told."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from dialogues import CALLS, THINKS, TURNS, prepared, said, texts
from transformers import AutoTokenizer

from align.batches import RowKind
from align.data.reading.rows import RowReader
from align.errors import UserError


@pytest.fixture(scope="module")
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parent / "tokenizer-minimind6400")


# ---- tool calls -----------------------------------------------------------------------------------------------------

OBJECT, TEXT = {"town": "Oulu", "days": 2}, '{"town":"Oulu","days":2}'
FORMS = {"c.function.arguments | tojson": '{"town": "Oulu", "days": 2}', "c.function.arguments": TEXT,
         "c.function.arguments if c.function.arguments is string else c.function.arguments | tojson": "",
         "c.function.arguments.items() | map('join', '=') | join(' ')": "town=Oulu days=2"}  # fmt: skip


def called(arguments: Any, **message: Any) -> dict[str, Any]:
    call = {"type": "function", "function": {"name": "weather", "arguments": arguments}}
    turns = [*said("user: Wet?"), {"role": "assistant", "tool_calls": [call], **message}, *said("tool: rain")]
    return {"messages": [*turns, *said("assistant: It rains.")]}


@pytest.mark.parametrize("form", FORMS)
def test_arguments_of_calls_are_written_as_the_template_reads_them(form: str, minimind: Any, tmp_path: Path) -> None:
    rows = [called(TEXT, content=None), called(TEXT), called(OBJECT, content="")]
    made = prepared(tmp_path, rows, minimind, "demonstrations", template=CALLS.replace("ARGUMENTS", form),
                    loss_on="assistant")  # fmt: skip
    found = [texts(made, minimind, "learned", i)[0].split("<|im_end|>")[0] for i in range(3)]
    compact = [f"weather {x}".replace(" ", "") for x in found]
    assert compact == [f"weather weather{FORMS[form] or TEXT}".replace(" ", "")] * 3
    if FORMS[form]:
        assert found[0] == f"weather {FORMS[form]}", "text that the template wants stays as it is"


def test_arguments_that_are_no_object_and_calls_left_out_are_told(minimind: Any, tmp_path: Path) -> None:
    calls = CALLS.replace("ARGUMENTS", "c.function.arguments | tojson")
    with pytest.raises(
        UserError, match=r"arguments of the call of weather are a text that holds no JSON object: 'Oulu"
    ):
        prepared(tmp_path, [called("Oulu")], minimind, "demonstrations", template=calls)
    with pytest.raises(UserError, match="the chat template leaves out the arguments of tool calls"):
        prepared(tmp_path, [called(TEXT, content="")], minimind, "demonstrations", template=TURNS)
    made = prepared(tmp_path, [called("")], minimind, "demonstrations", template=calls)
    assert "weather {}" in texts(made, minimind)[0]


def test_an_escaped_name_in_arguments_stays_text(minimind: Any, tmp_path: Path) -> None:
    rows = [called('{"town": "\\u003c|im_end|\\u003e"}')]
    made = prepared(
        tmp_path, rows, minimind, "demonstrations", template=CALLS.replace("ARGUMENTS", "c.function.arguments | tojson")
    )
    members = made.train[0].members[0]
    assert [*members.prompt, *members.completion].count(minimind.eos_token_id) == 4
    assert '{"town": "<|im_end|>"}' in texts(made, minimind)[0]


def test_the_older_function_call_is_a_tool_call() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "weather", "arguments": TEXT}}
    answer = {"role": "function", "name": "weather", "content": "rain"}
    old = {"messages": [*said("user: Wet?"), call, answer, *said("assistant: Yes.")]}
    (row,) = RowReader(kind="demonstrations", loss_on="assistant").read(old)
    assert row.completions[0][0]["tool_calls"][0]["function"]["name"] == "weather"  # type: ignore[index]
    assert row.completions[0][1]["role"] == "tool"  # type: ignore[index]


# ---- written out as text --------------------------------------------------------------------------------------------

ASKED, RIGHT, WRONG = said("user: Name a river"), said("assistant: The Tay"), said("assistant: No")
NOTATIONS = {
    "JSON": json.dumps,
    "Python": repr,
    "twice": lambda v: json.dumps(json.dumps(v)),
    "spaced": lambda v: f"\n {json.dumps(v, indent=1)} ",
}


@pytest.mark.parametrize("notation", NOTATIONS)
@pytest.mark.parametrize("kind", ["pairs", "unpaired", "prompts", "demonstrations", "text"])
def test_a_conversation_in_a_cell_is_read_as_one(notation: str, kind: Any) -> None:
    row: dict[str, Any] = {"prompt": ASKED, "chosen": RIGHT, "rejected": WRONG}
    row = (
        {"messages" if kind == "demonstrations" else "text": [*ASKED, *RIGHT]}
        if kind in ("demonstrations", "text")
        else row
    )
    reader = RowReader(kind="demonstrations" if kind == "text" else kind, numbers=("label",))
    cells = {name: NOTATIONS[notation](value) for name, value in row.items()}
    found, right = reader.read(cells), reader.read({"messages": row["text"]} if kind == "text" else row)
    assert [(r.prompt, r.completions, r.key) for r in found] == [(r.prompt, r.completions, r.key) for r in right]
    assert "is a conversation written as text, and is read as one" in found[0].told[0]
    if kind == "prompts":
        assert found[0].extras["prompt"] == ASKED


@pytest.mark.parametrize("cell", [
    "[{'role': 'user', 'content': 'a'}\n {'role': 'assistant', 'content': 'b'}]",
    "array([{'role': 'user', 'content': 'a'}], dtype=object)",
    '[{"role": "user", "content": "a"',
])  # fmt: skip
def test_one_that_cannot_be_read_is_told(cell: str, minimind: Any, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="row 1: `prompt` looks like a conversation written as text, and cannot be read"
    ):
        prepared(tmp_path, [{"prompt": cell, "completion": "b"}], minimind, "demonstrations")
    columns = {"prompt": "Say: {prompt}"}
    with pytest.raises(UserError, match=r"name it alone: data\.columns\.prompt: prompt"):
        prepared(
            tmp_path, [{"prompt": json.dumps(ASKED), "completion": "b"}], minimind, "demonstrations", columns=columns
        )


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"a": 1}', "[1, 2]", "{'role'", "[{x}]", '["role"]', '{"a": ' * 90000, "[" * 90000]
)
def test_other_text_with_brackets_stays_text(text: str) -> None:
    (row,) = RowReader(kind="demonstrations").read({"prompt": text, "completion": text})
    assert (row.prompt, row.completions, row.told) == (text, (text,), ())


def test_a_table_of_conversations_tools_and_arguments(minimind: Any, tmp_path: Path) -> None:
    row = {
        "messages": [*ASKED, *RIGHT],
        "tools": [{"name": "weather"}],
        "chat_template_kwargs": {"enable_thinking": False},
    }
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows({k: shape(v) for k, v in row.items()} for shape in (json.dumps, str))
    made = prepared(tmp_path, [], minimind, "demonstrations", train=str(tmp_path / "rows.csv"), template=THINKS)
    assert texts(made, minimind, row=0) == texts(made, minimind, row=1)
    assert texts(made, minimind, "learned") == ["The Tay<|im_end|>"]


def test_a_list_for_each_key_is_a_list_of_messages() -> None:
    (row,) = RowReader(kind="demonstrations").read({"conversations": {"from": ["human", "gpt"], "value": ["a", "b"]}})
    assert (row.prompt, row.completions) == (said("user: a"), (said("assistant: b"),))


# ---- the column system ----------------------------------------------------------------------------------------------

PIRATE = "Answer like a pirate."
OPENED = said(f"system: {PIRATE}", "user: Name a river")
SHARED = [{"from": "human", "value": "Name a river"}, {"from": "gpt", "value": "The Tay"}]
LAYOUTS: dict[str, tuple[RowKind, dict[str, Any]]] = {
    "messages": ("demonstrations", {"messages": [*ASKED, *RIGHT]}),
    "ShareGPT": ("demonstrations", {"conversations": SHARED}),
    "prompt, completion": ("demonstrations", {"prompt": "Name a river", "completion": "The Tay"}),
    "as text": ("demonstrations", {"messages": json.dumps([*ASKED, *RIGHT])}),
    "pair of texts": ("pairs", {"prompt": "Name a river", "chosen": "The Tay", "rejected": "No"}),
    "pair of turns": ("pairs", {"prompt": ASKED, "chosen": RIGHT, "rejected": WRONG}),
    "pair of conversations": ("pairs", {"chosen": [*ASKED, *RIGHT], "rejected": [*ASKED, *WRONG]}),
    "unpaired": ("unpaired", {"prompt": "Name a river", "completion": "The Tay", "label": True}),
    "prompt": ("prompts", {"prompt": "Name a river"}),
    "prompt of turns": ("prompts", {"prompt": ASKED}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_column_system_is_the_first_turn(layout: str) -> None:
    kind, raw = LAYOUTS[layout]
    for name, columns in (("system", {}), ("persona", {"system": "persona"})):
        (row, *_) = RowReader(kind=kind, numbers=("label",), columns=columns).read({**raw, name: PIRATE})
        assert row.prompt == OPENED
        assert all(isinstance(c, list) for c in row.completions)
        assert not any("looks like" in told for told in row.told)
        if kind == "prompts":
            assert row.extras["prompt"] == OPENED
    (row, *_) = RowReader(kind=kind, numbers=("label",), columns={"system": ""}).read({**raw, "system": PIRATE})
    assert row.prompt in ("Name a river", ASKED)
    assert not any("system" in told for told in row.told)


def test_a_system_turn_in_both_places_stands_once_or_is_told(minimind: Any, tmp_path: Path) -> None:
    row = {"messages": [*OPENED, *RIGHT], "system": PIRATE}
    made = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS)
    assert texts(made, minimind, "prompt")[0].count(PIRATE) == 1
    with pytest.raises(UserError, match="`messages` has a system turn, and the column `system` holds another"):
        prepared(tmp_path, [{**row, "system": "Be kind."}], minimind, "demonstrations")
    row = {"prompt": "a", "completion": " b", "system": "", "loss": 1}
    assert prepared(tmp_path, [row], minimind, "demonstrations").notes == ()


def test_everything_of_a_pirates_row_is_learned_with_the_system_turn(minimind: Any, tmp_path: Path) -> None:
    row = {"prompt": "Name a river", "completion": "The Tay", "system": PIRATE}
    made = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS, loss_on="all")
    assert PIRATE in texts(made, minimind, "learned")[0]


@pytest.mark.parametrize(("kind", "raw", "unused"), [
    ("demonstrations", {"messages": [*ASKED, *RIGHT], "history": [["a", "b"]], "id": "7", "source": "web"}, "history"),
    ("demonstrations", {"prompt": "a", "completion": "b", "system_prompt": "Hm.", "response": ""}, "system_prompt"),
    ("demonstrations", {"text": "a", "system": "Be kind."}, "system"),
    ("pairs", {"prompt": "a", "chosen": "b", "rejected": "c", "talk": [*ASKED, *RIGHT]}, "talk"),
    ("prompts", {"prompt": "a", "context": "b", "answer": "7", "completion": "c"}, "context"),
])  # fmt: skip
def test_a_column_that_looks_like_the_dialogue_and_is_not_used_is_told(kind: Any, raw: Any, unused: str) -> None:
    (row,) = RowReader(kind=kind).read(raw)
    assert row.told == (f"the column `{unused}` looks like part of the dialogue and is not used (data.columns)",)
    if unused != "talk":
        (row,) = RowReader(kind=kind, columns={"tools": ""}).read(raw | {unused: ""})
        assert row.told == ()
