"""What the table alone says of a key, where no rule has settled it."""

from __future__ import annotations

from typing import Any

from align.errors import did_you_mean
from align.translate.draft import Draft, is_off

SECTIONS = ("model", "data", "rollout", "reward", "optim", "training", "logging", "method")
ROWS = ("data.train", "data.validation")
ALIKE = {True: "true", False: "false"}


def plain(draft: Draft) -> None:
    """Every key that is left, and the defaults that are to be written."""
    for word in draft.words.defaults:
        if draft.words.here.get(word) in ROWS:
            continue  # a split or a folder, of rows that the original names
        if word not in draft.given and word not in draft.seen:
            _here(draft, word, draft.words.defaults[word])
    for word in list(draft.given):
        if word not in draft.accounts:
            _one(draft, word, draft.given[word])


def _one(draft: Draft, word: str, value: Any) -> None:
    words = draft.words
    if value is None:
        draft.already(word, "nothing is set")
    elif word in words.not_offered:
        if is_off(value) or _alike(value, words.defaults.get(word)):
            draft.already(word, "nothing is asked for")
        else:
            draft.refuse(word, words.not_offered[word])
    elif word in words.no_meaning:
        draft.no_meaning(word, words.no_meaning[word])
    elif word in words.here:
        _here(draft, word, value)
    else:
        near = did_you_mean(word, words.every())
        draft.refuse(word, f"no key of {words.project} ({words.version}) that is known here.{near}".removesuffix("."))


def _here(draft: Draft, word: str, value: Any) -> None:
    key = draft.words.here.get(word, "")
    if key.startswith("("):
        draft.no_meaning(word, key[1:-1])
    elif key.split(".")[0] not in SECTIONS:
        draft.elsewhere(word, key)
    elif key in draft.recipe:
        draft.elsewhere(word, f"see {key}")
    elif value is not None:
        draft.put(key, value, draft.words.same.get(word, word))


def _alike(value: Any, default: Any) -> bool:
    """Also where one is text, as on a command line."""
    return value == default or str(value).lower() == str(ALIKE.get(default, default)).lower()
