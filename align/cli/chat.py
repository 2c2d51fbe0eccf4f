"""`align chat`: talk to a model, word by word as it writes.

A model with a chat template holds a conversation (`/new` forgets it); one without goes on from each line by itself,
as a completion goes on from its prompt in training. Lines from a pipe are answered one after the other, without marks.
Characters that steer a terminal are shown by their numbers, also in a pipe: `... | tee log` is a terminal, too.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import TextStreamer

from align.data.reading.messages import BadRow, Text
from align.data.reading.rows import Row
from align.data.text.script import Writer
from align.data.text.special import Names
from align.data.text.template import choose_template
from align.data.text.tokens import Encoder
from align.errors import UserError
from align.models.frozen import model_in
from align.models.generate import continued
from align.models.parts import context_of
from align.models.settings import ModelSection
from align.models.sources import has_adapter, read_json, resolve
from align.models.tokenizer import load_tokenizer
from align.system.terminal import say

LEAVE, FORGET = ("/quit", "/exit"), "/new"


@dataclass(frozen=True, kw_only=True)
class Style:
    """How answers are drawn."""

    max_new_tokens: int = 256
    temperature: float = 0.8  # 0 takes the likeliest token
    seed: int = 0
    system: str = ""


class Speaker(TextStreamer):
    """Writes what is finished of an answer."""

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        say(text, end="\n" if stream_end else "")


@dataclass
class Partner:
    """A model that has been loaded, and what has been said."""

    model: Any
    tokenizer: Any
    style: Style
    said: list[dict[str, Any]] = field(default_factory=list)

    @property
    def converses(self) -> bool:
        return bool(self.tokenizer.chat_template)

    def forget(self) -> None:
        self.said = [{"role": "system", "content": self.style.system}] if self.style.system else []

    def prompt(self, line: str) -> list[int]:
        """Token ids of what the model goes on from; the oldest turns go where the context would overflow."""
        if not self.converses:
            return self._last(self._ids(line))
        self.said.append({"role": "user", "content": line})
        while True:
            ids = self._ids(self.said)
            oldest = next((i for i, m in enumerate(self.said) if m["role"] != "system"), 0)
            if len(ids) <= self.room or len(self.said) - oldest <= 1:
                return self._last(ids)
            del self.said[oldest : oldest + 2]  # a question and its answer

    def _ids(self, asked: Text) -> list[int]:
        """As prompts are in training: the name of a special token in what is said is text."""
        try:
            row = Row(prompt=self.writer.as_text(asked), completions=(), key="", numbers={})
            return self.encoder.one(self.writer.script(row)).members[0].prompt.tolist()
        except BadRow as error:
            raise UserError(f"{self.tokenizer.name_or_path}: {error}") from None

    @cached_property
    def writer(self) -> Writer:
        return Writer(self.tokenizer, choose_template(self.tokenizer), names=Names(self.tokenizer))

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer, self.writer.template)

    @property
    def room(self) -> int:
        """Tokens of the prompt that leave room for an answer."""
        context = context_of(self.model)
        return max(1, context - min(self.style.max_new_tokens, context // 2))

    def _last(self, ids: list[int]) -> list[int]:
        return ids[-self.room :]

    def answer(self, line: str) -> str:
        """Writes the answer to the terminal while it is made, and returns it."""
        streamer = Speaker(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        style, prompt = self.style, self.prompt(line)
        written = continued(self.model, self.tokenizer, prompt, style.max_new_tokens, style.temperature, streamer)
        text = self.tokenizer.decode(written, skip_special_tokens=True)
        if self.converses:
            self.said.append({"role": "assistant", "content": text})
        return text


def load_partner(name: str, style: Style) -> Partner:
    """A model folder, a hub name, asset:NAME, or a run folder's final/. UserError for one that writes no text."""
    folder = Path(resolve(name))
    about = read_json(folder / ("adapter_config.json" if has_adapter(folder) else "config.json"))
    kind = about.get("task_type") or next(iter(about.get("architectures") or []), "")
    if kind == "SEQ_CLS" or kind.endswith("ForSequenceClassification"):
        raise UserError(f"{name}: is a reward model; it scores texts and writes none")
    tokenizer = load_tokenizer(ModelSection(model_name_or_path=str(folder)))
    if style.system and not tokenizer.chat_template:
        raise UserError(f"{name}: has no chat template, so a system message has no place in it; leave --system out")
    model = model_in(str(folder), tokenizer)
    partner = Partner(model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer, style)
    partner.forget()
    return partner


def run(name: str, style: Style) -> None:
    """Answers lines until there are no more."""
    partner = load_partner(name, style)
    torch.manual_seed(style.seed)
    if sys.stdin.isatty():
        how = f"{FORGET} starts anew" if partner.converses else "no chat template: it goes on from what you write"
        say(f"{name}: {how}; {LEAVE[0]} or Ctrl-D leaves")
    for line in _lines():
        if line in LEAVE:
            return
        if line == FORGET:
            partner.forget()
        elif line:
            partner.answer(line)


def _lines() -> Iterator[str]:
    if not sys.stdin.isatty():
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    while True:
        try:
            yield input("\n> ").strip()
        except EOFError:
            say("")
            return
