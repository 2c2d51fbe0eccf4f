"""Text to tokens and mask: what is learned is what the assistant says, with one beginning and one end."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from align.batches import Tokens
from align.data.reading.messages import BadRow, Text
from align.data.reading.rows import Row
from align.data.text.script import PrefixBroken, Writer
from align.data.text.template import PLAIN, choose_template
from align.data.text.tokens import Encoder
from align.errors import UserError

TALK = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Two and two?"},
    {"role": "assistant", "content": "Four.\nNo doubt."},
    {"role": "user", "content": "Three and three? \U0001f60a"},
    {"role": "assistant", "content": "Six caf\u00e9s."},
]
MARKED = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' %}{% generation %}{{- m.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}
{%- else %}{{- m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
ALTERNATING = """\
{{- bos_token }}{%- for m in messages %}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}
{%- if m.role == 'user' %}
{{- '[INST] ' + m.content + ' [/INST]' }}{% else %}{{- ' ' + m.content + eos_token }}{% endif %}
{%- endfor %}"""
FORGETFUL = """\
{%- for m in messages %}{%- if m.role == 'user' or loop.last %}{{- m.role + ':' + m.content + eos_token }}{% endif %}
{%- endfor %}{%- if add_generation_prompt %}{{- 'assistant:' }}{% endif %}"""


@pytest.fixture(scope="module")
def stories() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parents[2] / "align" / "assets" / "stories260k")


@pytest.fixture(scope="module")
def minimind() -> Any:
    return AutoTokenizer.from_pretrained(Path(__file__).parent / "tokenizer-minimind6400")


@pytest.fixture(scope="module")
def merging() -> Any:
    """A byte-level tokenizer without a beginning that has merged `Paris` and ` yes`, and knows no border of words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet)  # pyright: ignore
    tokenizer.train_from_iterator(["Paris yes Paris yes Paris yes"] * 20, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")


def row(prompt: Text | None, *completions: Text) -> Row:
    return Row(prompt=prompt, completions=completions, key="", numbers={})


def encode(tokenizer: Any, given: Row, template: str = "", loss_on: Any = "completion") -> tuple[Tokens, ...]:
    writer = Writer(tokenizer, template or choose_template(tokenizer), loss_on)
    encoded = Encoder(tokenizer).one(writer.script(given))
    return encoded.members


def learned(tokenizer: Any, tokens: Tokens) -> str:
    return tokenizer.decode(tokens.completion[tokens.mask], clean_up_tokenization_spaces=False)


def test_the_plain_template_writes_what_its_documentation_says(stories: Any) -> None:
    tokens, *_ = encode(stories, row(TALK[:2], TALK[2:3]))
    text = "<s>System: Be kind.\n\nUser: Two and two?\n\nAssistant: Four.\nNo doubt.</s>"
    whole = np.concatenate([tokens.prompt, tokens.completion])
    assert stories.decode(whole) == text
    assert whole.tolist() == stories(text, add_special_tokens=False)["input_ids"]
    assert learned(stories, tokens).strip() == "Four.\nNo doubt.</s>"
    assert np.sum(whole == stories.bos_token_id) == np.sum(whole == stories.eos_token_id) == 1


def test_the_mask_is_that_of_a_template_with_generation_marks(minimind: Any) -> None:
    theirs = minimind.apply_chat_template(
        TALK, chat_template=MARKED, return_dict=True, return_assistant_tokens_mask=True
    )
    tokens, *_ = encode(minimind, row(TALK[:2], TALK[2:]), MARKED, "assistant")
    whole = [*tokens.prompt.tolist(), *tokens.completion.tolist()]
    mask = [0] * len(tokens.prompt) + tokens.mask.astype(int).tolist()
    end = len(whole)  # the line break after the last turn is not the model's to say
    assert whole == theirs["input_ids"][:end]
    assert mask == theirs["assistant_masks"][:end]
    assert minimind.decode(theirs["input_ids"][end:]) == "\n"


@pytest.mark.parametrize("name", ["stories", "minimind"])
def test_only_the_assistants_words_and_its_ends_are_learned(name: str, request: pytest.FixtureRequest) -> None:
    tokenizer = request.getfixturevalue(name)
    tokens, *_ = encode(tokenizer, row(TALK[:2], TALK[2:]), loss_on="assistant")
    said = learned(tokenizer, tokens)
    assert "Four.\nNo doubt." in said
    assert "Six caf\u00e9s." in said
    assert "Three" not in said
    assert "User" not in said
    assert "user" not in said
    ends = tokens.completion[tokens.mask] == tokenizer.eos_token_id
    assert ends.sum() == 2
    assert ends[-1]


def test_the_templates_own_beginning_is_the_only_one(stories: Any) -> None:
    tokens, *_ = encode(stories, row(TALK[1:2], TALK[2:3]), ALTERNATING)
    assert tokens.prompt.tolist().count(stories.bos_token_id) == 1
    assert tokens.completion.tolist().count(stories.eos_token_id) == 1


def test_an_answer_with_a_thought_starts_with_its_thought(minimind: Any) -> None:
    thought = [{"role": "assistant", "content": "<think>\nsum\n</think>\n\nFour."}]
    with_thought, without = encode(minimind, row(TALK[:2], thought, TALK[2:3]))
    assert with_thought.prompt.tolist() == without.prompt.tolist()
    assert "sum" in learned(minimind, with_thought)
    assert "sum" not in minimind.decode(with_thought.prompt)
    assert learned(minimind, without).endswith("Four.\nNo doubt.<|im_end|>")


def test_neighbours_of_one_role_are_merged_where_the_template_refuses_them(stories: Any) -> None:
    prompt = [TALK[1], TALK[3]]
    tokens, *_ = encode(stories, row(prompt, TALK[2:3]), ALTERNATING)
    assert "Two and two?\n\nThree and three?" in stories.decode(tokens.prompt)
    with pytest.raises(BadRow, match="refuses these messages: roles must alternate"):
        encode(stories, row(TALK[:2], TALK[2:3]), ALTERNATING)  # a system message is no neighbour of its kind


def test_a_template_that_forgets_earlier_turns_is_refused(stories: Any) -> None:
    assert learned(stories, encode(stories, row(TALK[1:2], TALK[2:3]), FORGETFUL)[0]).strip() == "Four.\nNo doubt.</s>"
    with pytest.raises(PrefixBroken, match="of the first 2 messages"):
        encode(stories, row(TALK[1:2], TALK[2:]), FORGETFUL, "assistant")


def test_strings_get_one_beginning_and_one_end(stories: Any) -> None:
    (tokens,) = encode(stories, row("Tom and Sue", " went home"))
    whole = [*tokens.prompt.tolist(), *tokens.completion.tolist()]
    assert whole == [1, *stories("Tom and Sue went home", add_special_tokens=False)["input_ids"], 2]
    assert tokens.mask.all()
    (tokens,) = encode(stories, row("<s>Tom and Sue", " went home</s>"))  # already written in the text
    whole = [*tokens.prompt.tolist(), *tokens.completion.tolist()]
    assert (whole.count(1), whole.count(2)) == (1, 1)
    assert (whole[0], whole[-1]) == (1, 2)


def test_where_the_tokenizer_merges_across_the_border_the_completion_keeps_its_characters(merging: Any) -> None:
    assert len(merging("Paris yes")["input_ids"]) < len(merging("Par")["input_ids"] + merging("is yes")["input_ids"])
    script = Writer(merging, "").script(row("Par", "is yes", "rot"))
    encoded = Encoder(merging).one(script)
    first, second = encoded.members
    assert encoded.apart
    assert first.prompt.tolist() == second.prompt.tolist() == merging("Par")["input_ids"]
    assert merging.decode(first.completion) == "is yes<end>"
    assert merging.decode(second.completion) == "rot<end>"


def test_a_tokenizer_that_starts_words_with_a_blank_adds_none_inside_a_text(stories: Any) -> None:
    encoder = Encoder(stories)
    before = stories("Once upon", add_special_tokens=False)["input_ids"]
    alone = encoder._alone(before, "day")
    assert stories.decode([*before, *alone]) == "Once uponday"
    assert stories.decode([*before, *stories("day", add_special_tokens=False)["input_ids"]]) == "Once upon day"


def test_plain_text_is_learned_from_its_second_token_on(stories: Any, merging: Any) -> None:
    (tokens,) = encode(stories, row(None, "Once upon a time"))
    assert tokens.prompt.tolist() == [stories.bos_token_id]
    assert learned(stories, tokens).strip() == "Once upon a time</s>"
    (tokens,) = encode(merging, row(None, "Paris yes and no"))
    whole = [*tokens.prompt.tolist(), *tokens.completion.tolist()]
    assert len(tokens.prompt) == 1
    assert whole == [*merging("Paris yes and no")["input_ids"], merging.eos_token_id]
    assert tokens.mask.all()


def test_everything_of_a_conversation_can_be_learned(minimind: Any) -> None:
    (tokens,) = encode(minimind, row(None, TALK), MARKED)
    assert len(tokens.prompt) == 1
    assert tokens.mask.all()
    assert tokens.completion[-1] == minimind.eos_token_id


def test_a_prompt_without_tokens_still_has_one(merging: Any) -> None:
    (tokens,) = encode(merging, row("", "Paris"))
    assert tokens.prompt.tolist() == [merging.eos_token_id]


def test_a_tokenizer_without_an_end_is_refused(merging: Any) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=merging.backend_tokenizer)
    with pytest.raises(UserError, match="no end-of-sequence token"):
        Encoder(bare)


def test_the_template_is_the_files_the_tokenizers_or_ours(stories: Any, minimind: Any, tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    file.write_text(MARKED)
    assert choose_template(minimind, str(file)) == MARKED
    assert choose_template(minimind) == minimind.chat_template
    assert choose_template(stories) == PLAIN.replace("BOS", "bos_token")
    with pytest.raises(UserError, match=r"data\.chat_template: .*missing\.jinja: cannot be read"):
        choose_template(minimind, str(tmp_path / "missing.jinja"))
    with pytest.raises(UserError, match=r"data\.chat_template: line 1: "):
        encode(minimind, row(TALK[:2], TALK[2:3]), "{% for %}")


def test_trl_knows_a_template_that_leaves_earlier_turns_alone(minimind: Any) -> None:
    from trl.chat_template_utils import qwen3_chat_template

    from align.data.text.trl_adapter import training_template

    tokenizer = AutoTokenizer.from_pretrained(minimind.name_or_path)
    tokenizer.chat_template = qwen3_chat_template
    conversation = row(TALK[:2], TALK[2:])
    with pytest.raises(PrefixBroken):
        encode(tokenizer, conversation, loss_on="assistant")
    other = training_template(tokenizer)
    assert other is not None
    said = learned(tokenizer, encode(tokenizer, conversation, other, "assistant")[0])
    answers = [turn.split("</think>")[1].strip() for turn in said.split("<|im_end|>")[:2]]
    assert answers == ["Four.\nNo doubt.", "Six caf\u00e9s."]
    tokenizer.chat_template = FORGETFUL
    assert training_template(tokenizer) is None
