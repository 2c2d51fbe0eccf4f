"""What rows and recipes say of a conversation beside its words: what is learned, what the template is given."""

from pathlib import Path
from typing import Any

import pytest
from dialogues import STRIPS, THINKS, TURNS, prepared, said, texts
from transformers import AutoTokenizer

from align.errors import UserError

ASKED, RIGHT, WRONG = said("user: Name a river"), said("assistant: The Tay"), said("assistant: No")


@pytest.fixture(scope="module")
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parent / "tokenizer-minimind6400")


# ---- turns that are not to be learned -------------------------------------------------------------------------------

MARKS: list[dict[str, Any]] = [{"weight": 0}, {"weight": 0.0}, {"train": False}, {"training": "false"}, {"loss": False},
    {"masked": True}, {"mask": 1}, {"ignore": "true"}, {"trainable": 0}, {"loss_weight": 0}]  # fmt: skip


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("loss_on", ["assistant", "all"])
def test_a_turn_that_is_not_to_be_learned_is_not(mark: Any, loss_on: str, minimind: Any, tmp_path: Path) -> None:
    turns = [
        *said("user: first"),
        *said("assistant: WRONG", **mark),
        *said("user: second", "assistant: right", weight=1),
    ]
    made = prepared(tmp_path, [{"messages": turns}], minimind, "demonstrations", template=TURNS, loss_on=loss_on)
    learned = texts(made, minimind, "learned")[0]
    assert "WRONG" not in learned
    assert learned.endswith("right<|im_end|>")
    assert ("second" in learned) == (loss_on == "all")
    assert "WRONG" in texts(made, minimind)[0]


def test_answers_of_a_pair_are_cut_where_nothing_more_is_learned(minimind: Any, tmp_path: Path) -> None:
    left_out = [*said("user: more"), *said("assistant: UNSAID", weight=0)]
    row = {"prompt": ASKED, "chosen": [*RIGHT, *left_out], "rejected": WRONG}
    made = prepared(tmp_path, [row], minimind, "pairs", template=TURNS)
    assert "UNSAID" not in texts(made, minimind)[0]


def test_weights_that_cannot_be_honoured_are_told(minimind: Any, tmp_path: Path) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"weight": 0.5}, "weight is 0.5; a turn is learned or not: 1 or 0"),
        ({"weight": 0}, "every turn that could be learned is marked as not to be"),
        ({"train_detail": [{"begin_offset": 0}]}, "only whole turns"),
    ]
    for mark, told in wrong:
        with pytest.raises(UserError, match=told):
            prepared(tmp_path, [{"messages": [*ASKED, *said("assistant: a", **mark)]}], minimind, "demonstrations")


# ---- what a template leaves out -------------------------------------------------------------------------------------

THOUGHTS = [said(f"assistant: <think>{thought}</think>The Tay") for thought in ("let me see", "hm")]


@pytest.mark.parametrize("kind", ["pairs", "unpaired"])
def test_answers_that_the_template_makes_equal_are_told(kind: Any, minimind: Any, tmp_path: Path) -> None:
    equal = {"prompt": ASKED, "chosen": THOUGHTS[0], "rejected": THOUGHTS[1]}
    other = {"prompt": said("user: Another"), "chosen": RIGHT, "rejected": WRONG}
    message = r"row 2: `chosen` and `rejected` are the same tokens of the chat template"
    with pytest.raises(UserError, match=message):
        prepared(tmp_path, [other, equal, other], minimind, kind, template=STRIPS)
    made = prepared(tmp_path, [other, equal, other], minimind, kind, template=STRIPS, bad_rows="drop")
    assert (made.train.counts.read, made.train.counts.bad) == (3, 1)
    assert len(made.train) == (2 if kind == "pairs" else 4)
    assert any("dropped: " in note and "row 2" in note for note in made.notes)


def test_an_answer_of_which_the_template_leaves_nothing_is_told(minimind: Any, tmp_path: Path) -> None:
    row = {"messages": [*ASKED, *said("assistant: <think>hm</think>")]}
    with pytest.raises(UserError, match="the chat template leaves nothing of what the assistant says"):
        prepared(tmp_path, [row], minimind, "demonstrations", template=STRIPS)


def test_a_thought_that_the_template_leaves_out_is_told(minimind: Any, tmp_path: Path) -> None:
    row = {"messages": [*ASKED, *said("assistant: The Tay", reasoning_content="It is long.")]}
    made = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS)
    assert "1 rows: the chat template leaves out `reasoning_content` of the last answer" in "".join(made.notes)
    assert "strftime" not in "".join(made.notes)
    shown = TURNS.replace("m.content +", "(m.reasoning_content or '') + m.content +")
    assert prepared(tmp_path, [row], minimind, "demonstrations", template=shown).notes == ()
    dated = "{{- strftime_now('%Y') }}" + shown
    made = prepared(tmp_path, [row], minimind, "demonstrations", template=dated)
    assert "the chat template writes the day on which the data are prepared" in made.notes[0]


# ---- what a template is given ---------------------------------------------------------------------------------------

EMPTY = "<think>\n\n</think>\n\n"


def test_a_row_and_the_recipe_give_the_template_arguments(minimind: Any, tmp_path: Path) -> None:
    row = {"messages": [*said("user: two and two?", "assistant: It is 4.")]}
    off = {**row, "chat_template_kwargs": {"enable_thinking": False}}
    on = {**row, "chat_template_kwargs": {"enable_thinking": True}}
    made = prepared(tmp_path, [row, off], minimind, "demonstrations", template=THINKS)
    assert [texts(made, minimind, "learned", i)[0] for i in (0, 1)] == [
        f"{EMPTY}It is 4.<|im_end|>",
        "It is 4.<|im_end|>",
    ]
    assert texts(made, minimind, "prompt", 1)[0].endswith(EMPTY)
    given = {"enable_thinking": False}
    other = prepared(tmp_path, [row, on], minimind, "demonstrations", template=THINKS, chat_template_kwargs=given)
    assert [texts(other, minimind, "learned", i)[0] for i in (0, 1)] == [
        "It is 4.<|im_end|>",
        f"{EMPTY}It is 4.<|im_end|>",
    ]
    asked = minimind.apply_chat_template(
        row["messages"][:1], chat_template=other.chat_template, tokenize=False, add_generation_prompt=True
    )
    assert asked == texts(other, minimind, "prompt")[0], "whoever has the template asks as the data did"


def test_prompts_that_a_policy_answers_have_the_arguments(minimind: Any, tmp_path: Path) -> None:
    row = {"question": said("user: two and two?"), "given": '{"enable_thinking": false}'}
    columns = {"prompt": "question", "chat_template_kwargs": "given"}
    made = prepared(tmp_path, [row], minimind, "prompts", template=THINKS, columns=columns)
    assert texts(made, minimind, "prompt")[0].endswith(EMPTY)
    assert made.train.extras(0)["chat_template_kwargs"] == {"enable_thinking": False}


def test_arguments_that_do_nothing_are_told(minimind: Any, tmp_path: Path) -> None:
    row = {"messages": [*ASKED, *RIGHT]}
    for name, told in (
        ("enable_thinkng", r"reads nothing of this name\. Did you mean enable_thinking"),
        ("messages", "is given to every"),
    ):
        with pytest.raises(UserError, match=rf"data\.chat_template_kwargs\.{name}: .*{told}"):
            prepared(tmp_path, [row], minimind, "demonstrations", template=THINKS, chat_template_kwargs={name: 1})
    made = prepared(
        tmp_path, [{**row, "chat_template_kwargs": {"mood": 1}}], minimind, "demonstrations", template=THINKS
    )
    assert any("`chat_template_kwargs` has mood, which the chat template does not read" in note for note in made.notes)
    with pytest.raises(UserError, match="has tools, which every template is given by us"):
        prepared(tmp_path, [{**row, "chat_template_kwargs": {"tools": 1}}], minimind, "demonstrations", template=THINKS)
    given = {"enable_thinking": False}
    made = prepared(
        tmp_path, [{"text": "a b"}], minimind, "demonstrations", template=THINKS, chat_template_kwargs=given
    )
    assert any("no row is written by the chat template" in note for note in made.notes)
