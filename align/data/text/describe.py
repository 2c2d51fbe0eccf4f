"""A prepared row as a reader sees it: every token's text, and whether it is learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from align.batches import Tokens
from align.data.store import Store

Part = Literal["prompt", "learned", "context"]  # context: in the completion, but not the model's to say


@dataclass(frozen=True, slots=True)
class Seen:
    """One token."""

    id: int
    text: str  # what it adds to the text before it; empty while a character is unfinished
    part: Part
    special: bool = False  # a special token, not a text with its name


def describe(store: Store, tokenizer: Any, i: int) -> tuple[tuple[Seen, ...], ...]:
    """The members of row `i`, token by token; the texts of a member joined are its decoded text."""
    return tuple(_seen(member, tokenizer) for member in store[i].members)


def _seen(tokens: Tokens, tokenizer: Any) -> tuple[Seen, ...]:
    ids = [*tokens.prompt.tolist(), *tokens.completion.tolist()]
    parts: list[Part] = ["prompt"] * len(tokens.prompt)
    for kept in tokens.mask.tolist():
        parts.append("learned" if kept else "context")
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    seen: list[Seen] = []
    shown = ""
    for end, (token, part) in enumerate(zip(ids, parts, strict=True), start=1):
        text = tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False)
        unfinished = text.endswith("\ufffd") and end < len(ids)  # a character of several byte tokens
        added = "" if unfinished else text[len(shown) :]
        shown = shown if unfinished else text
        seen.append(Seen(token, added, part, token in special))
    return tuple(seen)
