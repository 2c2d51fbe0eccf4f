"""Scripts become token ids: where the prompt ends is decided on tokens, and every character of a completion is in it.

The prompt is tokenized alone, and again with what follows. Where the first is a prefix of the second, the boundary is
known. Where the tokenizer has merged across it, prompt and completion are tokenized apart, which is also what a model
sees that goes on from a tokenized prompt; how often that happened is counted. The members of a pair share the prompt's
tokens by construction.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from align.batches import Tokens
from align.data.reading.messages import BadRow
from align.data.text.script import Piece, Script
from align.data.text.special import APART, Splitter, plain
from align.data.text.template import adds_bos, own_bos
from align.errors import UserError

Overlong = Literal["drop", "cut_prompt", "cut_completion"]
ANCHORS = ("\n", ".", "a")  # stand before a text whose own beginning must not get a blank


@dataclass(frozen=True, slots=True)
class Encoded:
    """A script's sequences."""

    members: tuple[Tokens, ...]
    apart: bool  # prompt and completion had to be tokenized apart

    def holds(self, token: int | None) -> bool:
        return any((ids == token).any() for m in self.members for ids in (m.prompt, m.completion))


class Encoder:
    """One tokenizer and its conventions. UserError where it has no end-of-sequence token."""

    def __init__(self, tokenizer: Any, template: str = ""):
        if tokenizer.eos_token_id is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path}: has no end-of-sequence token, so no completion could ever end; "
                "set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.splitter = Splitter(tokenizer)
        self.eos: int = tokenizer.eos_token_id
        self.bos: int | None = tokenizer.bos_token_id if adds_bos(tokenizer) else None
        first = tokenizer.bos_token_id
        self._has_token: dict[str, bool] = {}  # characters that have been looked up
        self.own = own_bos(tokenizer, template)
        self.start: int = self.eos if first is None else first  # stands for a prompt without tokens
        silent = {tokenizer.unk_token_id, tokenizer.pad_token_id} - {self.eos}
        special = {i for i, t in tokenizer.added_tokens_decoder.items() if t.special} | set(tokenizer.all_special_ids)
        self.ends = frozenset(special - silent)  # a template's turn may end with any of these

    def left_out(self, script: Script) -> list[str]:
        """Characters that have no token, where the tokenizer drops such without a word."""
        model = self.tokenizer.backend_tokenizer.model
        if type(model).__name__ != "BPE" or model.unk_token is not None or model.byte_fallback:
            return []
        texts = (script.prompt or "", *(piece.text for pieces in script.completions for piece in pieces))
        there = {c for text in texts for c in plain(text)}
        for c in there - self._has_token.keys():
            self._has_token[c] = c.isspace() or bool(self._ids([c])[0])
        return sorted(c for c in there if not self._has_token[c])

    def encode(self, scripts: list[Script]) -> list[Encoded | BadRow]:
        """All scripts in one call of the tokenizer; in place of one that it cannot read, why."""
        try:
            ids = iter(self._ids([text for script in scripts for text in _growing(script)]))
            return [self._encode(script, [next(ids) for _ in _growing(script)]) for script in scripts]
        except BadRow as error:
            if len(scripts) == 1:
                return [error]
            return [encoded for script in scripts for encoded in self.encode([script])]

    def all(self, scripts: list[Script]) -> list[Encoded]:
        """BadRow where the tokenizer cannot read one of them."""
        found = self.encode(scripts)
        if wrong := next((encoded for encoded in found if isinstance(encoded, BadRow)), None):
            raise wrong
        return [encoded for encoded in found if isinstance(encoded, Encoded)]

    def one(self, script: Script) -> Encoded:
        """BadRow where the tokenizer cannot read it."""
        return self.all([script])[0]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Names of special tokens that are set apart are read as text."""
        apart = [text for text in texts if APART in text]
        split = iter(self.splitter.ids(apart) if apart else [])
        found = iter(self._whole_ids([text for text in texts if APART not in text]))
        return [next(split if APART in text else found) for text in texts]

    def _whole_ids(self, texts: list[str]) -> list[list[int]]:
        """BadRow where there is no token for a part of them, nor one for what is unknown."""
        try:
            return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []
        except Exception as error:  # the library raises no class of its own
            raise BadRow(f"the tokenizer has no tokens for all of it: {error}") from None

    def _encode(self, script: Script, ids: list[list[int]]) -> Encoded:
        if script.prompt is None:
            parts = _slices([[], *ids])
            return Encoded((self._whole(script, parts or self._apart([], script.completions[0])),), parts is None)
        prompt, rest = ids[0], iter(ids[1:])
        if not script.completions:
            nothing = np.zeros(0, dtype=bool)
            return Encoded((Tokens(_array(self._begun(prompt, script.templated)), _array([]), nothing),), False)
        members, apart = [], False
        for pieces in script.completions:
            parts = _slices([prompt, *(next(rest) for _ in pieces)])
            if parts is None:
                parts, apart = self._apart(prompt, pieces), True
            completion, mask = self._ended(pieces, parts, script.templated)
            members.append(Tokens(_array(self._begun(prompt, script.templated)), completion, mask))
        return Encoded(tuple(members), apart)

    @property
    def unknown(self) -> int | None:
        """The token that stands for what has none, unless it means something else, too."""
        found = self.tokenizer.unk_token_id
        return None if found in (self.eos, self.tokenizer.bos_token_id) else found

    def _whole(self, script: Script, parts: list[list[int]]) -> Tokens:
        """A row without a prompt: the first token is given, the rest is learned."""
        completion, mask = self._ended(script.completions[0], parts, script.templated)
        if not script.templated and self.bos is not None and completion[0] != self.bos:
            return Tokens(_array([self.bos]), completion, mask)
        if len(completion) == 1:
            return Tokens(_array([self.start]), completion, mask)
        return Tokens(completion[:1], completion[1:], mask[1:])

    def _begun(self, prompt: list[int], templated: bool) -> list[int]:
        if self.bos is not None and not templated and prompt[:1] != [self.bos]:
            return [self.bos, *prompt]
        if prompt[:2] == [self.bos, self.bos]:
            return prompt[1:]  # a template that writes it, in front of a text that has it
        return prompt or [self.start]

    def _ended(
        self, pieces: tuple[Piece, ...], parts: list[list[int]], templated: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        """Completion and mask, cut after the last learned token, with exactly one end."""
        ids = [i for part in parts for i in part]
        mask = [piece.learn for piece, part in zip(pieces, parts, strict=True) for _ in part]
        end = max((i for i, kept in enumerate(mask, start=1) if kept), default=0)
        while end > 1 and ids[end - 2 : end] == [self.eos, self.eos]:
            end -= 1
        ids, mask = ids[:end], mask[:end]
        if not ids or (ids[-1] not in self.ends if templated else ids[-1] != self.eos):
            ids, mask = [*ids, self.eos], [*mask, True]
        return _array(ids), np.array(mask, dtype=bool)

    def _apart(self, prompt: list[int], pieces: tuple[Piece, ...]) -> list[list[int]]:
        before, parts = prompt, []
        for piece in pieces:
            parts.append(self._alone(before, piece.text))
            before = [*before, *parts[-1]]
        return parts

    def _alone(self, before: list[int], text: str) -> list[int]:
        """`text` as it reads after `before`: some tokenizers put a blank before whatever comes first."""
        (alone,) = self._ids([text])
        candidates = [alone]
        for anchor in ANCHORS:
            with suppress(BadRow):  # a token that the tokenizer has not
                lead, ids = self._ids([anchor, anchor + text])
                candidates += [ids[len(lead) :]] if ids[: len(lead)] == lead else []
        whole = self._text(before) + plain(text)
        return next((c for c in candidates if self._text([*before, *c]) == whole), alone)

    def _text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def cut_prompts(members: tuple[Tokens, ...], room: int, bos: int | None) -> tuple[Tokens, ...] | None:
    """The prompt, which the members share, as its last `room` tokens and the BOS before them; None without room."""
    prompt = members[0].prompt
    head = _num_marks(prompt, bos)
    if len(prompt) - head <= room:
        return members
    if room <= 0:
        return None
    prompt = np.concatenate([prompt[:head], prompt[len(prompt) - room :]])
    return tuple(Tokens(prompt, m.completion, m.mask) for m in members)


def _num_marks(prompt: np.ndarray, bos: int | None) -> int:
    """1 where the prompt begins with a BOS of its own; ChatML opens every turn with it, which is none."""
    return int(prompt[0] == bos and np.sum(prompt == bos) == 1)


def fit(
    members: tuple[Tokens, ...], limit: int, overlong: Overlong, bos: int | None
) -> tuple[tuple[Tokens, ...] | None, bool]:
    """The members within `limit` tokens each, and whether they had to be cut; None where they cannot be used.

    `cut_prompt` keeps the prompt's end (and the BOS before it), the same for all members; `cut_completion` drops the
    completion's end and its EOS with it. A cut that would leave no prompt, nothing to
    learn, or the members equal, drops.
    """
    if max(len(m) for m in members) <= limit:
        return members, False
    if overlong == "cut_prompt":
        completion = max(len(m.completion) for m in members)
        cut = cut_prompts(members, limit - completion - _num_marks(members[0].prompt, bos), bos)
        return cut, cut is not None
    if overlong == "cut_completion":
        rooms = [max(limit - len(m.prompt), 0) for m in members]
        cut = tuple(Tokens(m.prompt, m.completion[:r], m.mask[:r]) for m, r in zip(members, rooms, strict=True))
        different = len({m.completion.tobytes() for m in cut}) == len(cut)
        return (cut, True) if different and all(m.mask.any() for m in cut) else (None, False)
    return None, False


def _growing(script: Script) -> list[str]:
    """The prompt, then for each completion the text up to the end of each of its pieces."""
    texts = [] if script.prompt is None else [script.prompt]
    for pieces in script.completions:
        so_far = script.prompt or ""
        for piece in pieces:
            so_far += piece.text
            texts.append(so_far)
    return texts


def _slices(growing: list[list[int]]) -> list[list[int]] | None:
    """What each text adds to the one before it, on tokens; None where tokens change under a longer text."""
    parts = []
    for before, after in pairwise(growing):
        if after[: len(before)] != before:
            return None
        parts.append(after[len(before) :])
    return parts


def _array(ids: list[int]) -> np.ndarray:
    return np.array(ids, dtype=np.int32)
