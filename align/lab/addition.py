"""Column addition, written out: a task of several steps whose every step can be checked.

The prompt is `47+85=`. The completion goes from the last column to the first, and writes of each the digit and what is
carried over: `2131`. The sum is read off the digits and the last carry: 132. Only a whole right sum earns 1;
everything else earns 0, so that a policy must find out by itself which column it got wrong.

The teacher of the training rows is careless: of ten carries it forgets seven (`2021`, or `2130`, or `2020`). Who
imitates it is right, by its likeliest completion, only where nothing is to be carried, whatever the seed; rewards alone
can lead from there to the right sums.

`python -m align.lab.addition ROWS TOKENIZER` writes the rows of `asset:addition` and the tokenizer of
`asset:careless_adder` into these folders; a third word makes it problems of so many digits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Regex, Tokenizer
from tokenizers.decoders import Fuse
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast

from align.system.files import replace_file

DIGITS = 2
END = "<end>"
CARELESS = 0.7  # share of the carries that the teacher forgets
ROWS = {"train": 4000, "test": 256}


def question(first: int, second: int, digits: int = DIGITS) -> str:
    return f"{first:0{digits}}+{second:0{digits}}="


def solution(first: int, second: int, forgets: Sequence[bool] = (False,) * DIGITS) -> str:
    """Digit and carry of every column, the last column first; `forgets` says whose carry is forgotten."""
    written, carry = "", 0
    for place, forgotten in enumerate(forgets):
        carry, digit = divmod(first // 10**place % 10 + second // 10**place % 10 + carry, 10)
        carry = 0 if forgotten else carry
        written += f"{digit}{carry}"
    return written


def answer(text: str, digits: int = DIGITS) -> int | None:
    """The sum that a completion states; None where it is not of the form asked for."""
    said = text.strip()
    if len(said) != 2 * digits or not (said.isascii() and said.isdigit()):
        return None
    return sum(int(digit) * 10**place for place, digit in enumerate([*said[::2], said[-1]]))


def steps(text: str) -> list[int]:
    """A step is a column, two characters: boundaries as `rollout.steps` wants them."""
    return [*range(0, len(text), 2), len(text)]


def reward(prompts: list[str], completions: list[str], total: list[int], **columns: Any) -> list[float]:
    """With the signature of a reward function; `total` is a column of the data."""
    asked = zip(prompts, completions, total, strict=True)
    return [float(answer(text, prompt.index("+")) == right) for prompt, text, right in asked]


def rows(digits: int = DIGITS) -> dict[str, list[dict[str, Any]]]:
    """Different problems for training and test; those of the test have right completions."""
    draw, size = np.random.default_rng(0), 10**digits
    chosen = draw.choice(size * size, sum(ROWS.values()), replace=False)
    forgets = draw.random((len(chosen), digits)) < CARELESS
    forgets[ROWS["train"] :] = False
    made = [_row(*divmod(int(n), size), f.tolist()) for n, f in zip(chosen, forgets, strict=True)]
    return {"train": made[: ROWS["train"]], "test": made[ROWS["train"] :]}


def _row(first: int, second: int, forgets: Sequence[bool]) -> dict[str, Any]:
    asked = question(first, second, len(forgets))
    return {"prompt": asked, "completion": solution(first, second, forgets), "total": first + second}


def tokenizer() -> PreTrainedTokenizerFast:
    """A token for each character."""
    words = [END, *"0123456789+="]
    made = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token=END))
    made.pre_tokenizer, made.decoder = Split(Regex("."), "isolated"), Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=END, pad_token=END, unk_token=END)


def main(rows_to: str, tokenizer_to: str, digits: str = str(DIGITS)) -> None:
    for name, made in rows(int(digits)).items():
        text = "".join(json.dumps(row) + "\n" for row in made)
        replace_file(Path(rows_to, f"{name}.jsonl"), text)
    tokenizer().save_pretrained(tokenizer_to)


if __name__ == "__main__":
    main(*sys.argv[1:])
