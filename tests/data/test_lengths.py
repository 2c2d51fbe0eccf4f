"""What is cut, what is dropped, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from mistakes import mistakes
from transformers import AutoTokenizer

from align.batches import Tokens
from align.data.prepare import prepare
from align.data.settings import DataSection
from align.data.text.tokens import cut_prompts, fit


def made(prompt: list[int], *completions: list[int]) -> tuple[Tokens, ...]:
    p = np.array(prompt, dtype=np.int32)
    return tuple(Tokens(p, np.array(c, dtype=np.int32), np.ones(len(c), dtype=bool)) for c in completions)


def test_cutting_the_prompt_keeps_its_end_and_its_beginning_mark() -> None:
    members, cut = fit(made([1, 5, 6, 7, 8], [10, 2], [11, 12, 2]), 6, "cut_prompt", 1)
    assert cut
    assert members is not None
    assert [m.prompt.tolist() for m in members] == [[1, 7, 8]] * 2
    assert [m.completion.tolist() for m in members] == [[10, 2], [11, 12, 2]]
    assert fit(made([5, 6, 7], [10, 2]), 4, "cut_prompt", 1)[0][0].prompt.tolist() == [6, 7]  # pyright: ignore
    assert fit(made([1, 5], [10, 11, 2]), 4, "cut_prompt", 1) == (None, False)  # no word of the prompt would be left


def test_cutting_the_completion_drops_its_end() -> None:
    members, cut = fit(made([1, 5], [10, 11, 2], [12, 2]), 4, "cut_completion", 1)
    assert cut
    assert members is not None
    assert [m.completion.tolist() for m in members] == [[10, 11], [12, 2]]
    assert fit(made([1, 5], [10, 11, 2], [10, 12, 2]), 3, "cut_completion", 1) == (None, False)  # now equal
    assert fit(made([1, 5, 6, 7], [10, 2]), 4, "cut_completion", 1) == (None, False)


def test_a_limit_of_the_prompt_counts_its_tokens_beside_the_beginning_mark() -> None:
    long = made([1, 5, 6, 7, 8], [10, 2], [11, 12, 2])
    cut = cut_prompts(long, 2, 1)
    assert cut is not None
    assert [m.prompt.tolist() for m in cut] == [[1, 7, 8]] * 2
    assert [m.completion.tolist() for m in cut] == [[10, 2], [11, 12, 2]]
    assert cut_prompts(long, 4, 1) is long
    assert cut_prompts(made([5, 6, 7], [10]), 1, 1)[0].prompt.tolist() == [7]  # pyright: ignore
    assert cut_prompts(made([1, 5, 1, 6], [10]), 2, 1)[0].prompt.tolist() == [1, 6]  # pyright: ignore  # ChatML's marks
    assert cut_prompts(long, 0, 1) is None


def test_what_fits_is_left_alone() -> None:
    members = made([1, 5], [10, 2])
    assert fit(members, 4, "drop", 1) == (members, False)
    assert fit(members, 3, "drop", 1) == (None, False)


def test_prompts_beyond_their_own_limit_keep_their_end_and_are_counted(tmp_path: Path) -> None:
    tokenizer: Any = AutoTokenizer.from_pretrained("align/assets/stories260k")
    rows = [
        {"prompt": "One day a girl named Lily found", "chosen": " a ball.", "rejected": " it."},
        {"prompt": "A", "chosen": " cat.", "rejected": " dog."},
        {"prompt": "A", "chosen": " cat sat on the mat and looked at the sun.", "rejected": " dog."},
    ]  # one prompt is too long, and one row
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(rows[i]) + "\n" for i in (0, 2, *[1] * 12)))
    section = DataSection(train=str(source), max_prompt_length=3, max_length=12)
    splits = prepare(section, "pairs", (), tokenizer, tmp_path / "cache")
    store = splits.train
    first = store[0].members[0]
    whole = tokenizer(rows[0]["prompt"])["input_ids"]
    assert first.prompt.tolist() == [whole[0], *whole[-3:]]
    assert tokenizer.decode(first.completion, skip_special_tokens=True) == "a ball."
    assert (store.counts.rows, store.counts.shortened, store.counts.overlong) == (13, 1, 1)
    assert "train: 1 rows cut to 12 tokens, 3 of the prompt" in splits.notes


def test_a_limit_of_prompts_is_refused_where_it_could_do_nothing() -> None:
    assert mistakes("sft", "data.loss_on=all", "data.max_prompt_length=5")[0].endswith(
        "there is no prompt; remove one of them"
    )
    assert "prompts alone, which data.max_length bounds" in mistakes("rloo", "data.max_prompt_length=5")[0]
    assert mistakes("dpo", "data.max_prompt_length=-5")[0].startswith("command line: data.max_prompt_length: found -5")
