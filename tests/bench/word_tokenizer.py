"""The words of hh_harmless's training file as a tokenizer: what a bag of words sees, in their order.

    python -m tests.bench.word_tokenizer [--tokens N] [--folder FOLDER]

Lower case, words and marks apart; a word beyond the N most frequent tokens is <unk>. The same file gives the same
tokenizer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from tests.bench.cases import HH

WORDS = HH.parent / "words"


def texts(file: Path) -> Iterator[str]:
    """The turns of the conversations and both answers."""
    with file.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            yield from (message["content"] for message in row["messages"])
            yield from (row["chosen"], row["rejected"])


def words_of(file: Path, tokens: int) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()  # type: ignore[assignment]
    made.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    special = ["<pad>", "<unk>", "</s>"]
    made.train_from_iterator(texts(file), trainers.WordLevelTrainer(vocab_size=tokens, special_tokens=special))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def main() -> None:
    parser = argparse.ArgumentParser(description="A tokenizer of words.")
    parser.add_argument("--tokens", type=int, default=2000, help="size of the vocabulary (default: 2000)")
    parser.add_argument("--folder", type=Path, default=WORDS, help=f"default: {WORDS.relative_to(Path.cwd())}")
    given = parser.parse_args()
    words_of(HH, given.tokens).save_pretrained(given.folder)


if __name__ == "__main__":
    main()
