"""What stops a generation, what pads, what is refused."""

from __future__ import annotations

import shutil

import pytest
from tiny_models import STORIES, word_tokenizer
from transformers import AutoTokenizer, GenerationConfig

from align.errors import UserError
from align.models.settings import ModelSection
from align.models.tokenizer import PAD, added_ids, end_of_turn, load_tokenizer, stop_ids

TURNS = "{% for m in messages %}{{ '<s> ' + m.content + ' <end> w0' }}{% endfor %}"


def _section(folder, **keys):
    return ModelSection(tokenizer_name_or_path=str(folder), **keys)


def test_stops_are_the_union_of_template_tokenizer_and_generation_config(tmp_path):
    word_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer = load_tokenizer(_section(tmp_path, add_tokens=["<end>"]))
    assert stop_ids(tokenizer, None) == (tokenizer.eos_token_id,)
    tokenizer.chat_template = TURNS
    end = tokenizer.convert_tokens_to_ids("<end>")
    assert end_of_turn(tokenizer) == end
    config = GenerationConfig(eos_token_id=[7, tokenizer.eos_token_id])
    assert stop_ids(tokenizer, config) == tuple(sorted({end, 7, tokenizer.eos_token_id}))
    assert stop_ids(tokenizer, GenerationConfig(eos_token_id=9)) == tuple(sorted({end, 9, tokenizer.eos_token_id}))


def test_a_real_chat_template(repository):
    tokenizer = load_tokenizer(_section(repository / "tests/data/tokenizer-minimind6400"))
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer)) == "<|im_end|>"


def test_a_template_with_text_after_the_answer_has_no_token_of_its_own(tmp_path):
    tokenizer = word_tokenizer(tmp_path, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ' : ' + m.content + ' w1 ' }}{% endfor %}"
    assert end_of_turn(tokenizer) is None


def test_a_template_that_raises_is_the_users_mistake(tmp_path):
    tokenizer = word_tokenizer(tmp_path, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{{ raise_exception('system first') }}"
    with pytest.raises(UserError, match=r"cannot render.*system first"):
        end_of_turn(tokenizer)


def test_content_as_parts_is_understood(tmp_path):
    tokenizer = word_tokenizer(tmp_path, eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content[0]['text'] + ' </s> ' }}{% endfor %}"
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id


def test_the_shipped_tokenizer_pads_with_a_token_that_ends_nothing():
    tokenizer = load_tokenizer(ModelSection(model_name_or_path=STORIES), "scalar")
    assert tokenizer.pad_token == "<unk>"
    assert len(tokenizer) == 512


def test_a_lone_special_token_pads_for_a_language_model_but_not_for_a_score(tmp_path):
    word_tokenizer(tmp_path, eos_token="</s>", bos_token="</s>", unk_token="</s>", pad_token="</s>")
    assert load_tokenizer(_section(tmp_path)).pad_token == "</s>"
    tokenizer = load_tokenizer(_section(tmp_path), "scalar")
    assert tokenizer.pad_token == PAD
    assert added_ids(_section(tmp_path), tokenizer) == (tokenizer.pad_token_id,)


def test_added_tokens_are_single_special_tokens(tmp_path):
    word_tokenizer(tmp_path, eos_token="</s>", unk_token="<unk>")
    section = _section(tmp_path, add_tokens=["<think>", "w3", "</think>"])
    tokenizer = load_tokenizer(section)
    ids = tokenizer("<think> w1 </think>")["input_ids"]
    assert len(ids) == 3
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == "w1"
    assert added_ids(section, tokenizer) == (42, 43)  # w3 was there before
    tokenizer.save_pretrained(tmp_path / "again")
    again = load_tokenizer(_section(tmp_path / "again", add_tokens=["<think>"]))
    assert again.get_vocab() == tokenizer.get_vocab()
    assert added_ids(_section(tmp_path / "again", add_tokens=["<think>"]), again) == ()


def test_a_run_folder_means_its_final_model(tmp_path):
    word_tokenizer(tmp_path / "run" / "final", eos_token="</s>", unk_token="<unk>")
    (tmp_path / "run" / "recipe.yaml").write_text("")
    assert len(load_tokenizer(_section(tmp_path / "run"))) == 42


def test_folders_without_a_usable_tokenizer_name_the_folder_and_the_cure(tmp_path, repository):
    empty, endless = tmp_path / "empty", tmp_path / "endless"
    empty.mkdir()
    with pytest.raises(UserError, match=r"empty: has no tokenizer.*tokenizer_name_or_path"):
        load_tokenizer(_section(empty))
    word_tokenizer(endless, unk_token="<unk>")
    with pytest.raises(UserError, match=r"endless: the tokenizer has no end-of-sequence.*tokenizer_config.json"):
        load_tokenizer(_section(endless))
    broken = tmp_path / "broken"
    shutil.copytree(repository / "align/assets/stories260k", broken)
    (broken / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="broken: its tokenizer cannot be loaded"):
        load_tokenizer(_section(broken))
    with pytest.raises(UserError, match="tokenizer_name_or_path: missing"):
        load_tokenizer(ModelSection(config={"model_type": "llama"}))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such folder; give a model folder"),
        ("a/b/c", "no such folder"),
        ("somebody/something", "no such folder here.*local folder"),
        ("./test", "Did you mean tests"),
        ("asset:stories26k", "Did you mean stories260k"),
        (__file__, "is a file"),
    ],
)
def test_names_that_lead_nowhere(name, message):
    with pytest.raises(UserError, match=message):
        load_tokenizer(_section(name))


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_of_padding_is_saved_as_it_was(tmp_path, side):
    word_tokenizer(tmp_path / "source", eos_token="</s>", unk_token="<unk>", padding_side=side)
    tokenizer = load_tokenizer(_section(tmp_path / "source"))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").padding_side == side


def test_a_tokenizer_that_knows_no_unknown_token_has_a_beginning_an_end_and_stops(tmp_path):
    word_tokenizer(tmp_path, bos_token="<s>", eos_token="</s>")
    tokenizer = load_tokenizer(_section(tmp_path))
    assert tokenizer.unk_token is None
    tokenizer.chat_template = "{% for m in messages %}{{ m.role + ' : ' + m.content + ' </s> \n' }}{% endfor %}"
    assert stop_ids(tokenizer, None) == (tokenizer.eos_token_id,)
