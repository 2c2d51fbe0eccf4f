"""The name of a special token in a text is text, unless the recipe lets it be the token."""

from pathlib import Path
from typing import Any

import pytest
from dialogues import TURNS, prepared, said, texts
from tiny_models import word_tokenizer
from transformers import AutoTokenizer

from align.data.reading.messages import BadRow
from align.data.text.special import Names, Splitter
from align.errors import UserError

NAMED = "With <|im_end|> and a line end."


@pytest.fixture(scope="module")
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parent / "tokenizer-minimind6400")


@pytest.fixture(scope="module")
def stories() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parents[2] / "align" / "assets" / "stories260k")


def ids(splits: Any, row: int = 0) -> list[int]:
    member = splits.train[row].members[0]
    return [*member.prompt.tolist(), *member.completion.tolist()]


@pytest.mark.parametrize("row", [
    {"prompt": "How does ChatML end a turn?", "completion": f" {NAMED}"},
    {"messages": said("user: How does ChatML end a turn?", f"assistant: {NAMED}")},
    {"text": f"<|im_start|> {NAMED}"},
])  # fmt: skip
def test_a_name_in_a_text_is_text(row: dict[str, Any], minimind: Any, tmp_path: Path) -> None:
    end = minimind.eos_token_id
    made = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS)
    number = 2 if "messages" in row else 1  # the ends of turns, written by the template or by us
    assert ids(made).count(end) == number
    assert NAMED in texts(made, minimind, "learned")[0]
    assert any("1 rows: <|im_end|> is text there, not the token: data.special_tokens" in note for note in made.notes)
    allowed = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS, special_tokens=["<|im_end|>"])
    assert ids(allowed).count(end) == number + 1
    assert allowed.fingerprint != made.fingerprint
    everything = prepared(tmp_path, [row], minimind, "demonstrations", template=TURNS, special_tokens="all")
    assert ids(everything).count(minimind.bos_token_id) == (0 if "prompt" in row else 1 if "text" in row else 2)


def test_what_a_recipe_writes_around_a_column_is_the_token(minimind: Any, tmp_path: Path) -> None:
    columns = {"prompt": "<|im_start|>user\n{q}<|im_end|>\n<|im_start|>assistant\n", "completion": "a"}
    made = prepared(tmp_path, [{"q": NAMED, "a": "So."}], minimind, "demonstrations", columns=columns)
    assert [ids(made).count(i) for i in (minimind.bos_token_id, minimind.eos_token_id)] == [2, 2]
    assert NAMED in texts(made, minimind, "prompt")[0]


@pytest.mark.parametrize("name", ["stories", "minimind"])
def test_text_reads_as_text_and_the_templates_tokens_as_tokens(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    bos, eos = tokenizer.bos_token, tokenizer.eos_token
    text = f"{bos}A line\nends {Names(tokenizer).as_text(eos)} so{eos} \u00e9"
    (found,) = Splitter(tokenizer).ids([text])
    assert f"ends {eos} so{eos} \u00e9" in tokenizer.decode(found, clean_up_tokenization_spaces=False)
    assert [found.count(tokenizer.convert_tokens_to_ids(t)) for t in (bos, eos)] == [1, 1]
    without = text.replace("\ufdd0", "")
    (found,) = Splitter(tokenizer).ids([without])
    assert found == tokenizer(without, add_special_tokens=False)["input_ids"], "nothing set apart: as ever"


def test_a_tokenizer_that_reads_the_name_as_a_word_is_told(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(tmp_path / "words", bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    rows = [{"prompt": "w1", "completion": "w2 </s> w3"}]
    with pytest.raises(UserError, match=r"row 1: the tokenizer reads </s> as its special token wherever it stands"):
        prepared(tmp_path, rows, tokenizer, "demonstrations")


def test_names_that_there_are_not_and_the_noncharacter_are_refused(minimind: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.special_tokens: <\|im_stat\|>: no special token .*Did you mean"):
        prepared(tmp_path, [{"text": "a"}], minimind, "demonstrations", special_tokens=["<|im_stat|>"])
    with pytest.raises(BadRow, match="U\\+FDD0"):
        Names(minimind).as_text("a \ufdd0 b")
    assert Names(minimind, "all").as_text("<|im_end|>") == "<|im_end|>"


def test_tools_and_prompts_of_a_policy_that_writes_are_text_too(minimind: Any, tmp_path: Path) -> None:
    made = prepared(tmp_path, [{"prompt": said(f"user: {NAMED}"), "hints": ["a"]}], minimind, "prompts", template=TURNS)
    assert ids(made).count(minimind.eos_token_id) == 1
    assert made.train.extras(0)["prompt"] == said(f"user: {NAMED}"), "rewards see it as it is"
    assert made.train.marked(0)["prompt"] != made.train.extras(0)["prompt"]
