"""Which rows, how they are read, and how long they may be."""

from __future__ import annotations

from typing import Any

from align.translate.draft import Draft, is_off
from align.translate.rules.course import evaluates
from align.translate.rules.mixtures import FILES as LOADERS
from align.translate.rules.mixtures import name_of, sources

LONGEST = 32768  # tokens, where a project cuts nothing
FILES = (".jsonl", ".json", ".csv", ".parquet", ".gz")
TEMPLATE = "template.jinja"  # the file beside the recipe; its name is made when that is known
ONLINE = ("grpo", "rloo", "ppo")


def rows(draft: Draft) -> None:
    sources(draft)
    _held_out(draft)
    _columns(draft)
    template(draft)
    lengths(draft)
    if draft.words.trainer == "sft":
        _learned(draft)
    layout(draft)


def _held_out(draft: Draft) -> None:
    size = draft.get("test_split_size")
    if not is_off(size):
        share(draft, size, "test_split_size" if draft.says("test_split_size") else "dataset_mixture")
        draft.no_meaning("dataset_test_split", "a part of the rows is held out")
        return
    draft.already("test_split_size", "no row is held out")
    if not evaluates(draft):
        draft.no_meaning("dataset_test_split", "nothing is evaluated")
        draft.no_meaning("do_eval", "nothing is evaluated")
        return
    if str(draft.get("dataset_name")).endswith(FILES):
        draft.no_meaning("dataset_test_split", "a file has no splits")
        needed(draft)
    elif _named(draft):
        config = draft.get("dataset_config") or draft.get("dataset_configs")
        source = name_of(draft.get("dataset_name"), config, draft.get("dataset_test_split"))
        draft.put("data.validation", source, "dataset_test_split", "do_eval")
    else:
        needed(draft)


def _named(draft: Draft) -> bool:
    """Whether the data set has a name whose splits are known: `datasets` goes before it, and a loader has no rows."""
    return bool(draft.get("dataset_name")) and not draft.says("datasets") and draft.get("dataset_name") not in LOADERS


def needed(draft: Draft) -> None:
    """An evaluation is asked for, and no rows for it are named."""
    draft.put("data.validation", 0.05, "eval_strategy", note="no rows are named for it: a share of the prompts")
    draft.elsewhere("do_eval", "data.validation")


def share(draft: Draft, size: Any, word: str) -> None:
    """Rows that are held out, by their prompts' hash; a number of rows is no share."""
    if 0 < float(size) < 1:
        draft.put("data.validation", float(size), word, note="of the prompts, by their hash")
    else:
        draft.refuse(word, f"{size} rows are held out: here it is a share of the prompts, or a source of its own")
        draft.put("data.validation", 0.05)
    draft.elsewhere("do_eval", "data.validation")


def _columns(draft: Draft) -> None:
    text, prompt = draft.get("dataset_text_field"), draft.get("dataset_prompt_column")
    if text not in (None, "text"):
        draft.put("data.columns.text", str(text), "dataset_text_field")
    else:
        draft.already("dataset_text_field", "the column `text`")
    if prompt not in (None, "prompt"):
        draft.put("data.columns.prompt", str(prompt), "dataset_prompt_column")
    else:
        draft.already("dataset_prompt_column", "the column `prompt`")


def template(draft: Draft) -> None:
    if text := draft.get("chat_template"):
        draft.files[TEMPLATE] = str(text)
        draft.put("data.chat_template", TEMPLATE, "chat_template")
    path = draft.get("chat_template_path")
    if path and str(path).endswith((".jinja", ".jinja2", ".j2")):
        draft.put("data.chat_template", str(path), "chat_template_path")
    elif path:
        draft.refuse("chat_template_path", "a template is a Jinja file; save the tokenizer's and name it")
    arguments = draft.get("chat_template_kwargs")
    if isinstance(arguments, dict) and arguments:
        draft.put("data.chat_template_kwargs", arguments, "chat_template_kwargs")


def lengths(draft: Draft) -> None:
    if draft.words.trainer in ONLINE:
        _prompts(draft)
        return
    word = "max_seq_length" if draft.says("max_seq_length") else "max_length"
    length = draft.get(word)
    own = draft.words.own(word)
    if length is None or (own in draft.given and draft.given[own] is None):
        draft.refuse(word, f"rows without a limit: one is needed; {LONGEST} is written")
        length = LONGEST
    draft.put("data.max_length", int(length), word)
    prompt = draft.get("max_prompt_length")
    if prompt:
        draft.put("data.max_prompt_length", int(prompt), "max_prompt_length")
    mode = draft.get("truncation_mode")
    cut = "cut_prompt" if mode == "keep_end" else "cut_completion"
    cut = "drop" if draft.words.trainer == "reward" else cut
    draft.put("data.overlong", cut, "truncation_mode", note="as it cuts a row that is longer" if cut != "drop" else "")
    if mode not in (None, "keep_start", "keep_end"):
        draft.refuse("truncation_mode", "keep_start and keep_end are known here")


def _prompts(draft: Draft) -> None:
    """max_length bounds a prompt, where the policy writes the rest."""
    prompt = draft.get("max_prompt_length")
    draft.put("data.max_length", int(prompt or LONGEST), "max_prompt_length",
              note="" if prompt else "it cuts no prompt")  # fmt: skip
    draft.put("data.overlong", "cut_prompt", note="the end of a long prompt is kept")


def _learned(draft: Draft) -> None:
    """TRL learns whole conversations and texts, and of rows with a prompt the completion."""
    if draft.get("assistant_only_loss"):
        draft.put("data.loss_on", "assistant", "assistant_only_loss")
    elif (only := draft.get("completion_only_loss")) is not None:
        draft.put("data.loss_on", "completion" if only else "all", "completion_only_loss")
    else:
        note = "rows with a prompt apart: completion, which is what TRL does with them"
        draft.put("data.loss_on", "all", "completion_only_loss", note=note)
    draft.already("assistant_only_loss", "see data.loss_on")
    draft.already("completion_only_loss", "see data.loss_on")


def layout(draft: Draft) -> None:
    """Packing changes speed and no number: no row sees another. TRL's steps count packed rows, ours the rows."""
    if draft.get("packing"):
        draft.put("training.layout", "packed", "packing")
        why = "a step counts rows here, and packs of max_length tokens there: make training.batch_size as much larger"
        draft.refuse("packing", why)
    else:
        draft.already("packing", "a step counts rows")
    if draft.get("padding_free"):
        draft.put("training.layout", "packed", "padding_free")
    else:
        draft.already("padding_free", "the layout is chosen")
