"""What a row may look like, and what is said about one that may not."""

from typing import Any

import pytest

from align.batches import RowKind
from align.data.reading.messages import BadRow, merge_turns
from align.data.reading.rows import Row, RowReader
from align.errors import UserError

ASK = {"role": "user", "content": "2 + 2?"}
RIGHT = {"role": "assistant", "content": "4"}
WRONG = {"role": "assistant", "content": "5"}
MORE = {"role": "user", "content": "And 3 + 3?"}
SIX = {"role": "assistant", "content": "6"}


def read(kind: RowKind, raw: dict[str, Any], loss_on: str = "completion", **columns: str) -> Row:
    (row,) = RowReader(kind=kind, numbers=("label", "margin"), loss_on=loss_on, columns=columns).read(raw)  # pyright: ignore
    return row


def test_a_template_joins_columns_and_leaves_no_dangling_line() -> None:
    raw = {"instruction": "Add {x}.", "input": "", "out": "4"}
    row = read("demonstrations", raw, prompt="{instruction}\n{input}", completion="out")
    assert (row.prompt, row.completions) == ("Add {x}.", ("4",))
    raw["input"] = "1 and 2"
    assert read("demonstrations", raw, prompt="{instruction}\n{input}", completion="out").prompt == "Add {x}.\n1 and 2"
    assert read("demonstrations", raw, prompt="{{{input}}}", completion="\n{out}").prompt == "{1 and 2}"
    assert read("demonstrations", raw, prompt="{{{input}}}", completion="\n{out}").completions == ("\n4",)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"chosn": "a"}, r"data\.columns\.chosn: no such column; .*Did you mean chosen\?"),
        ({"prompt": "{a"}, r"data\.columns\.prompt: .*write \{\{ and \}\} for braces"),
        ({"prompt": "{}"}, r"empty braces"),
    ],
)
def test_a_mapping_that_cannot_be_is_refused_at_once(columns: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RowReader(kind="pairs", columns=columns)


def test_a_mapping_to_a_column_that_is_not_there_names_those_that_are() -> None:
    reader = RowReader(kind="pairs", columns={"prompt": "{instruction}\n{imput}"})
    message = r"a\.jsonl has no column imput; it has instruction, input\. Did you mean input\?"
    with pytest.raises(UserError, match=message):
        reader.check_columns(["instruction", "input"], "a.jsonl")


PAIR = {"prompt": [ASK], "chosen": [RIGHT], "rejected": [WRONG]}
SAME_PAIR = {
    "as messages": PAIR,
    "answers as strings": {"prompt": [ASK], "chosen": "4", "rejected": "5"},
    "messages as the prompt": {"messages": [ASK], "chosen": "4", "rejected": "5"},
    "answers as one message": {"prompt": [ASK], "chosen": RIGHT, "rejected": WRONG},
    "whole conversations": {"chosen": [ASK, RIGHT], "rejected": [ASK, WRONG]},
    "whole conversations beside a prompt": {"prompt": "2 + 2?", "chosen": [ASK, RIGHT], "rejected": [ASK, WRONG]},
    "ShareGPT": {
        "conversations": [{"from": "human", "value": "2 + 2?"}],
        "chosen": {"from": "gpt", "value": "4"},
        "rejected": {"from": "gpt", "value": "5"},
    },
    "text parts, and keys without values": {
        "prompt": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}], "tool_calls": None}],
        "chosen": [RIGHT],
        "rejected": [WRONG],
    },
}


@pytest.mark.parametrize("name", SAME_PAIR)
def test_a_pair_is_the_same_pair_however_it_is_written(name: str) -> None:
    row = read("pairs", SAME_PAIR[name])
    assert row.prompt == [ASK]
    assert row.completions == ([RIGHT], [WRONG])
    assert row.key == "2 + 2?"


def test_a_pair_of_strings_stays_strings_and_keeps_its_numbers() -> None:
    row = read("pairs", {"prompt": "a", "chosen": " b", "rejected": " c", "margin": "0.5", "text": 17})
    assert (row.prompt, row.completions, row.numbers) == ("a", (" b", " c"), {"margin": 0.5})


def test_a_pair_is_two_unpaired_rows() -> None:
    good, bad = RowReader(kind="unpaired", numbers=("label",)).read(PAIR)
    assert (good.completions, good.numbers) == (([RIGHT],), {"label": 1.0})
    assert (bad.completions, bad.numbers) == (([WRONG],), {"label": 0.0})
    assert good.key == bad.key


@pytest.mark.parametrize(("label", "number"), [(True, 1.0), (False, 0.0), (0, 0.0), ("true", 1.0), ("False", 0.0)])
def test_labels_are_true_or_false(label: Any, number: float) -> None:
    assert read("unpaired", {"messages": [ASK, RIGHT], "label": label}).numbers == {"label": number}


def test_what_is_learned_of_a_conversation_decides_where_the_prompt_ends() -> None:
    raw = {"messages": [ASK, RIGHT, MORE, SIX]}
    last = read("demonstrations", raw)
    assert (last.prompt, last.completions) == ([ASK, RIGHT, MORE], ([SIX],))
    each = read("demonstrations", raw, loss_on="assistant")
    assert (each.prompt, each.completions) == ([ASK], ([RIGHT, MORE, SIX],))
    everything = read("demonstrations", raw, loss_on="all")
    assert (everything.prompt, everything.completions) == (None, ([ASK, RIGHT, MORE, SIX],))


def test_chosen_is_imitated_only_when_asked_for() -> None:
    assert read("demonstrations", {"messages": [ASK], **PAIR}, completion="chosen").completions == ([RIGHT],)
    with pytest.raises(BadRow, match=r"map data\.columns\.completion to chosen"):
        read("demonstrations", {"prompt": "a", "chosen": "b", "rejected": "c"})


def test_tools_may_be_json_text() -> None:
    tool = {"type": "function", "function": {"name": "add"}}
    assert read("pairs", {**PAIR, "tools": [tool]}).tools == [tool]
    assert read("pairs", {**PAIR, "tools": '[{"type": "function", "function": {"name": "add"}}]'}).tools == [tool]


BAD: dict[str, tuple[RowKind, dict[str, Any], str]] = {
    "no chosen": ("pairs", {"prompt": "a", "rejected": "c"}, r"no `chosen`; the row has prompt, rejected"),
    "null chosen": ("pairs", {"prompt": "a", "chosen": None, "rejected": "c"}, r"`chosen` is null"),
    "no prompt": ("pairs", {"chosen": "b", "rejected": "c"}, r"no `prompt`"),
    "equal": ("pairs", {"prompt": "a", "chosen": "b", "rejected": "b"}, r"`chosen` equals `rejected`"),
    "empty": ("pairs", {"prompt": "a", "chosen": "b", "rejected": " \n"}, r"`rejected` is empty"),
    "empty list": ("pairs", {"prompt": "a", "chosen": [], "rejected": "b"}, r"`chosen` is empty"),
    "a number": ("pairs", {"prompt": "a", "chosen": 4, "rejected": "5"}, r"`chosen` must be a string .* found int '4'"),
    "ends with the user": ("pairs", {**PAIR, "chosen": [RIGHT, MORE]}, r"`chosen` ends with a user turn"),
    "nothing shared": ("pairs", {"chosen": [ASK, RIGHT], "rejected": [MORE, SIX]}, r"do not share their first message"),
    "no margin": ("pairs", {**PAIR, "margin": "wide"}, r"`margin` must be a number, found str 'wide'"),
    "infinite": ("pairs", {**PAIR, "margin": "inf"}, r"finite"),
    "role": (
        "pairs",
        {**PAIR, "prompt": [{"role": "usr", "content": "a"}]},
        r"message 1: role is 'usr'.*Did you mean user",
    ),
    "content": ("pairs", {**PAIR, "prompt": [{"role": "user", "content": 3}]}, r"`content` must be a string"),
    "not a message": ("pairs", {**PAIR, "prompt": ["hi"]}, r"`prompt`, message 1: must be an object"),
    "tools": ("pairs", {**PAIR, "tools": "{"}, r"`tools` is a string that is not JSON"),
    "label": ("unpaired", {"prompt": "a", "completion": "b", "label": "maybe"}, r"`label` must be true or false"),
    "label of two": ("unpaired", {"prompt": "a", "completion": "b", "label": 0.7}, r"`label` must be true or false"),
    "no label": ("unpaired", {"prompt": "a", "completion": "b"}, r"needs `label`"),
    "only users": ("demonstrations", {"messages": [ASK]}, r"no assistant turn"),
    "user last": ("demonstrations", {"messages": [ASK, RIGHT, MORE]}, r"`messages` ends with a user turn"),
    "assistant first": ("demonstrations", {"messages": [RIGHT]}, r"starts with the assistant"),
    "nothing": ("demonstrations", {"story": "x"}, r"needs `text`, `messages`, or `prompt` and `completion`"),
    "empty text": ("demonstrations", {"text": ""}, r"`text` must be a string with something in it"),
    "text as messages": ("demonstrations", {"messages": "hi"}, r"must be a list of messages"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_row_is_told_what_is_wrong_with_it(name: str) -> None:
    kind, raw, message = BAD[name]
    with pytest.raises(BadRow, match=message):
        read(kind, raw)


def test_loss_on_all_is_refused_for_pairs() -> None:
    with pytest.raises(UserError, match="for demonstrations"):
        RowReader(kind="pairs", loss_on="all")


def test_merging_turns_joins_neighbours_only() -> None:
    assert merge_turns([ASK, MORE, RIGHT]) == [{"role": "user", "content": "2 + 2?\n\nAnd 3 + 3?"}, RIGHT]
    assert merge_turns([ASK, RIGHT, MORE]) == [ASK, RIGHT, MORE]
