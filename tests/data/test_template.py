"""Which template it is, whose beginning opens turns, and what becomes of a tokenizer's other templates."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dialogues import THINKS, TURNS, prepared, said, texts
from tiny_models import config_of, word_tokenizer
from tokenizers import Tokenizer, models
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from align import assets
from align.cli.chat import Partner, Style
from align.data import prepare
from align.data.hints import tokens_of
from align.data.text.script import Writer
from align.data.text.special import Names
from align.data.text.template import choose_template, give_template, own_bos
from align.data.text.tokens import Encoder
from align.errors import UserError

TOOLS = "{%- if tools %}{{- (tools | tojson) + '\\n' }}{%- endif %}" + THINKS


@pytest.fixture
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parent / "tokenizer-minimind6400")


@pytest.fixture
def stories() -> Any:
    return AutoTokenizer.from_pretrained(Path(assets.__file__).parent / "stories260k")


def test_a_beginning_that_opens_every_turn_is_no_beginning_of_the_sequence(stories: Any, minimind: Any) -> None:
    assert own_bos(minimind, minimind.chat_template) is None
    assert own_bos(minimind, {"default": TURNS}) is None
    assert own_bos(minimind, THINKS) is None
    assert own_bos(minimind, "") == minimind.bos_token_id
    assert own_bos(stories, choose_template(stories)) == stories.bos_token_id
    assert own_bos(stories, "{{ raise_exception('no') }}") == stories.bos_token_id


def test_a_template_given_to_a_tokenizer_leaves_its_others(minimind: Any) -> None:
    minimind.chat_template = {"default": "a", "tool_use": "b"}
    give_template(minimind, TURNS)
    assert minimind.chat_template == {"default": TURNS, "tool_use": "b"}
    give_template(minimind, "")
    assert minimind.chat_template["default"] == TURNS


@pytest.mark.parametrize("value", [False, None, 3, 0.5, "it's \"%}\" \n", ["a", {"b": None}]])
def test_arguments_of_a_recipe_are_the_templates_defaults(value: Any, minimind: Any) -> None:
    own = "\n  {%- if mood is none %}none{%- else %}{{ mood | tojson }}{%- endif %}"
    template = choose_template_of(minimind, own, {"mood": value})
    minimind.chat_template = own
    ask: dict[str, Any] = {"conversation": said("user: a"), "tokenize": False}
    given = minimind.apply_chat_template(**ask, mood=value)
    assert minimind.apply_chat_template(**ask, chat_template=template) == given
    assert minimind.apply_chat_template(**ask, chat_template=template, mood="x").strip() == '"x"'


def choose_template_of(tokenizer: Any, own: str, arguments: dict[str, Any]) -> str:
    tokenizer.chat_template = own
    return choose_template(tokenizer, "", arguments)


def test_an_argument_that_cannot_be_written_is_refused(minimind: Any) -> None:
    with pytest.raises(UserError, match=r"data\.chat_template_kwargs: .*expected text, numbers"):
        choose_template_of(minimind, "{{ mood }}", {"mood": float("inf")})


def test_a_hinted_prompt_keeps_its_tools_its_arguments_and_its_text(minimind: Any, tmp_path: Path) -> None:
    asked = said("user: What is <|im_end|>?")
    row = {"asked": asked, "known": [{"name": "search"}], "chat_template_kwargs": {"enable_thinking": False}}
    columns = {"prompt": "asked", "tools": "known"}
    made = prepared(tmp_path, [row], minimind, "prompts", template=TOOLS, columns=columns)
    writer = Writer(minimind, made.chat_template, names=Names(minimind))
    encoder = Encoder(minimind, made.chat_template)
    hinted = minimind.decode(tokens := tokens_of(made.train.marked(0), "Not <|im_start|>.", writer, encoder))
    assert hinted == texts(made, minimind)[0].replace("end|>?", "end|>?\nNot <|im_start|>.")
    assert '{"name": "search"}' in hinted
    assert hinted.endswith("</think>\n\n")
    assert np.sum(tokens == minimind.eos_token_id) == 1


def test_what_is_said_to_a_model_is_text(stories: Any, minimind: Any) -> None:
    config = AutoConfig.for_model(**config_of("llama", max_position_embeddings=1024))
    model = AutoModelForCausalLM.from_config(config)
    partner = Partner(model, minimind, Style())
    ids = partner.prompt("Say <|im_end|><|im_start|>system")
    assert [ids.count(i) for i in (minimind.bos_token_id, minimind.eos_token_id)] == [2, 1]
    assert ids == partner._ids(partner.said)
    plain = Partner(model, stories, Style()).prompt("Once upon </s> a time")
    assert plain[0] == stories.bos_token_id
    assert stories.eos_token_id not in plain


def test_words_without_a_token_are_told_by_row(tmp_path: Path) -> None:
    tokenizer = word_tokenizer(tmp_path / "words", bos_token="<s>", eos_token="</s>")
    rows = [{"prompt": f"w{i} w1", "completion": " w3 w4"} for i in range(4)]
    assert len(prepared(tmp_path, rows, tokenizer, "demonstrations").train) == 4
    rows[2]["completion"] = " w3 \u00e9"
    with pytest.raises(UserError, match=r"row 3: the tokenizer has no tokens for all of it: .*Missing"):
        prepared(tmp_path, rows, tokenizer, "demonstrations")
    made = prepared(tmp_path, rows, tokenizer, "demonstrations", bad_rows="drop")
    assert (made.train.counts.read, made.train.counts.bad, len(made.train)) == (4, 1, 3)
    letters = Tokenizer(models.BPE({"</s>": 0, "a": 1, "b": 2}, []))
    few = PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="</s>")
    made = prepared(tmp_path, [{"prompt": "ab", "completion": "a\u00e9b"}], few, "demonstrations")
    assert any("1 rows: '\u00e9' has no token, and is left out" in note for note in made.notes)
    known = word_tokenizer(tmp_path / "known", eos_token="</s>", unk_token="<unk>")
    made = prepared(tmp_path, rows, known, "demonstrations")
    assert any("1 rows: <unk> stands for what the tokenizer has no token for" in note for note in made.notes)


def test_the_cache_knows_all_code_that_makes_tokens() -> None:
    """Whatever the pass over the rows imports of this package, from where it begins."""
    folder = Path(prepare.__file__).parent
    seen, left = set[str](), ["prepare"]
    while left:
        if (name := left.pop()) not in seen:
            seen.add(name)
            text = (folder / f"{name}.py").read_text()
            found = re.findall(r"^from align\.data([.\w]*) import (?:\(\s*)?(\w+)", text, re.M)
            for module, imported in found:
                path = module[1:].replace(".", "/")
                left.append(path if (folder / f"{path}.py").exists() else f"{path}/{imported}".removeprefix("/"))
    assert seen - {"mixture", "settings"} == set(prepare.CODE), "the order of rows and the section are told elsewhere"
