"""Names of special tokens inside of texts: `<|im_end|>` in an answer is eight characters, not the end of the turn.

What stands in the data is text. Before anything is rendered, a noncharacter is put into every such name, so that the
template's own tokens can be told from it; the encoder takes it out again and reads what is left as text. A recipe names
in `data.special_tokens` those that its rows may write as tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import groupby
from typing import Any, Literal, cast

from align.data.reading.messages import BadRow
from align.errors import UserError, did_you_mean

APART = "\ufdd0"  # a noncharacter, which no text may hold
PRIVATE = "\ufdd1"  # another, for our own names of the template's tokens
Allowed = Sequence[str] | Literal["all"]


def special_names(tokenizer: Any) -> frozenset[str]:
    """All special tokens, as text."""
    added = (t.content for t in tokenizer.added_tokens_decoder.values() if t.special)
    return frozenset({*tokenizer.all_special_tokens, *added} - {""})


def _pattern(names: Iterable[str]) -> str:
    """Any of the names, the longest first; by first characters, so that texts are searched fast."""
    ordered = sorted(names, key=lambda n: (n[0], -len(n), n))
    groups = (f"{re.escape(c)}(?:{'|'.join(re.escape(n[1:]) for n in g)})" for c, g in groupby(ordered, lambda n: n[0]))
    return "|".join(groups)


class Names:
    """The names that are text wherever a row has them."""

    def __init__(self, tokenizer: Any, allowed: Allowed = ()):
        known = special_names(tokenizer)
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}  # some are no special tokens
        for name in () if allowed == "all" else allowed:
            if name not in known | added:
                there = f"no special token of the tokenizer; there are {', '.join(sorted(known))}"
                raise UserError(f"data.special_tokens: {name}: {there}.{did_you_mean(name, known)}")
        names = frozenset() if allowed == "all" else known - set(allowed)
        self._search = re.compile(_pattern(names)) if names else None

    def as_text(self, value: Any) -> Any:
        """A text, or whatever holds texts, with every name set apart. BadRow for the noncharacter that does it."""
        if isinstance(value, str):
            if APART in value:
                raise BadRow("has U+FDD0, which is no character; remove it")
            return value if self._search is None else self._search.sub(_set_apart, value)
        if isinstance(value, dict):
            return {self.as_text(k): self.as_text(v) for k, v in value.items()}
        return [self.as_text(v) for v in value] if isinstance(value, list) else value

    def found(self, text: str) -> list[str]:
        """The names that `as_text` has set apart in a text, each once."""
        if self._search is None or APART not in text:
            return []
        return list(dict.fromkeys(m[0].replace(APART, "") for m in self._search.finditer(plain(text))))


def _set_apart(match: re.Match[str]) -> str:
    return f"{APART}{match[0][0]}{APART}{match[0][1:]}"


def plain(value: Any) -> Any:
    """The texts as they were before `as_text`."""
    if isinstance(value, str):
        return value.replace(APART, "")
    if isinstance(value, dict):
        return {plain(k): plain(v) for k, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list) else value


class Splitter:
    """Tokenizes texts in which names are set apart: those are read as text, the others as their tokens."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer

    @cached_property
    def _ready(self) -> tuple[Any, re.Pattern[str], dict[str, str], dict[int, int]]:
        """A tokenizer that reads no special token by its name, and our names for them, which it does read."""
        from tokenizers import AddedToken, Tokenizer

        reader = Tokenizer.from_str(self.tokenizer.backend_tokenizer.to_str())
        reader.no_padding()
        reader.no_truncation()
        reader.encode_special_tokens = True
        known = {t.content: (i, t) for i, t in self.tokenizer.added_tokens_decoder.items()}
        private: dict[str, str] = {}
        ids: dict[int, int] = {}
        for n, name in enumerate(sorted(special_names(self.tokenizer) & known.keys())):
            i, token = known[name]
            private[name] = f"{PRIVATE}{n}{PRIVATE}"
            reader.add_tokens([AddedToken(private[name], lstrip=token.lstrip, rstrip=token.rstrip, normalized=False)])
            ids[cast(int, reader.token_to_id(private[name]))] = i
        return reader, re.compile(f"(?<!{APART})(?:{_pattern(private)})"), private, ids

    def ids(self, texts: list[str]) -> list[list[int]]:
        """BadRow where a name becomes its token even as text."""
        reader, search, private, known = self._ready
        named = [plain(search.sub(lambda m: private[m[0]], text)) for text in texts]
        found: list[list[int]] = [e.ids for e in reader.encode_batch(named, add_special_tokens=False)]
        special = set(known.values())
        for ids in found:
            if taken := special.intersection(ids):
                name = self.tokenizer.convert_ids_to_tokens(min(taken))
                finding = f"the tokenizer reads {name} as its special token wherever it stands"
                raise BadRow(f"{finding}; remove it, or list it in data.special_tokens")
        return [[known.get(i, i) for i in ids] for ids in found]
