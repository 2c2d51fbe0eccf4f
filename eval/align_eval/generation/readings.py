"""Items as token ids, by the conventions of training: template, beginning, end, and names of special tokens as text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from align.batches import Tokens
from align.data.reading.messages import BadRow
from align.data.reading.rows import Row
from align.data.text.script import PrefixBroken, Writer
from align.data.text.special import Names
from align.data.text.tokens import Encoder
from align.errors import UserError
from align_eval.records import Item, Text

Form = Literal["chat", "text"]


@dataclass(frozen=True)
class Reading:
    """One tokenizer and its template."""

    tokenizer: Any
    template: str
    form: Form
    system: str = ""
    special_tokens: Any = ()

    @cached_property
    def writer(self) -> Writer:
        return Writer(self.tokenizer, self.template, names=Names(self.tokenizer, self.special_tokens))

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.template)

    def asked(self, item: Item) -> Text:
        return asked(item, self.form, self.system)

    def prompt(self, item: Item) -> Tokens:
        """BadRow where the template or the tokenizer refuses it."""
        row = Row(prompt=self.writer.as_text(self.asked(item)), completions=(), key="", numbers={})
        return self.encoder.one(self.writer.script(row)).members[0]

    def choices(self, item: Item, gap: str, *, ended: bool) -> tuple[Tokens, ...]:
        """The prompt with each of the item's choices behind it. BadRow as for `prompt`."""
        said = item.columns["choices"]
        prompt = self.asked(item)
        completions: list[Text] = [[{"role": "assistant", "content": choice}] for choice in said]
        if isinstance(prompt, str):
            completions = [("" if prompt[-1:].isspace() else gap) + choice for choice in said]
        as_text = self.writer.as_text
        row = Row(prompt=as_text(prompt), completions=tuple(map(as_text, completions)), key="", numbers={})
        try:
            members = self.encoder.one(self.writer.script(row)).members
        except PrefixBroken as error:
            raise BadRow(f"the chat template rewrites earlier turns: {error}") from None
        return members if ended else tuple(map(self._open, members))

    def _open(self, tokens: Tokens) -> Tokens:
        """Without the end of the turn."""
        if len(tokens.completion) > 1 and int(tokens.completion[-1]) in self.encoder.ends:
            return Tokens(tokens.prompt, tokens.completion[:-1], tokens.mask[:-1])
        return tokens


def asked(item: Item, form: Form, system: str) -> Text:
    """The prompt in the form that a model wants. Messages stay messages."""
    if isinstance(item.prompt, str) and form == "text":
        return item.prompt
    talk = item.prompt if isinstance(item.prompt, list) else [{"role": "user", "content": item.prompt}]
    before = [{"role": "system", "content": system}] if system and talk[0].get("role") != "system" else []
    return [*before, *talk]


def form_of(wanted: str, template: object, name: str, system: str) -> Form:
    """What `auto` means for a model with or without a chat template of its own. UserError for a lost system message."""
    form: Form = "text" if wanted == "text" or (wanted == "auto" and not template) else "chat"
    if system and form == "text":
        raise UserError(f"{name}: its prompts are plain text, where a system message has no place; leave system out")
    return form
