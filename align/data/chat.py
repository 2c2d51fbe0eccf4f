"""Rows become text: what the prompt is, what follows, and which stretches of it the model is to learn.

Strings stay as they are. Messages go through the chat template: the recipe's file, else the tokenizer's own, else
`PLAIN`, which writes

    System: Be kind.

    User: What is two and two?

    Assistant: Four.</s>

with the tokenizer's end-of-sequence token after each assistant turn, and one beginning-of-sequence token in front where
the tokenizer adds one to plain text too. Beginning and end are the template's business alone: nothing is added to them
unless the last turn has no end at all.

A template is trusted only as far as it leaves earlier text alone: what was rendered for the first messages must open
what is rendered for all of them, or the loss mask would stand in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from align.data.messages import BadRow, Message, Text, is_answer, merge_turns
from align.data.rows import Row
from align.errors import UserError

PLAIN = """\
{{- BOS }}
{%- for message in messages %}
{%- if message.tool_calls or tools %}{{- raise_exception('it has no form for tools') }}{%- endif %}
{%- if message.role == 'assistant' %}
{{- 'Assistant: ' + message.content + eos_token }}
{%- else %}
{{- (message.role | capitalize) + ': ' + message.content }}
{%- endif %}
{{- '' if loop.last and not add_generation_prompt else '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"""


class PrefixBroken(Exception):
    """The template rewrites earlier turns when later ones follow."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a completion."""

    text: str
    learn: bool


@dataclass(frozen=True, slots=True)
class Script:
    """A row as text, ready for the tokenizer."""

    prompt: str | None  # None: the first token serves as the prompt
    completions: tuple[tuple[Piece, ...], ...]
    templated: bool  # then the template has taken care of the beginning and the end of turns


def check_characters(script: Script) -> None:
    """BadRow for half a surrogate pair, which JSON can write ("\\ud83d") and no tokenizer can read."""
    text = (script.prompt or "") + "".join(piece.text for pieces in script.completions for piece in pieces)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start + 20]
        raise BadRow(f"has {text[error.start]!a}, half of a character, near {near!a}; write the whole of it") from None


def choose_template(tokenizer: Any, file: str = "") -> str:
    """The Jinja text for messages: `file`, else the tokenizer's own, else `PLAIN` made for this tokenizer."""
    if file:
        try:
            return Path(file).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.chat_template: {file}: cannot be read: {error}; name a Jinja file") from None
    own = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    return own or PLAIN.replace("BOS", "bos_token" if adds_bos(tokenizer) else "''")


def adds_bos(tokenizer: Any) -> bool:
    """Whether this tokenizer puts its beginning-of-sequence token before plain text by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("a")["input_ids"][:1] == [tokenizer.bos_token_id]


@dataclass(frozen=True)
class Writer:
    """Turns rows into scripts with one template."""

    tokenizer: Any
    template: str
    loss_on: Literal["assistant", "completion", "all"] = "completion"

    def script(self, row: Row) -> Script:
        """BadRow where the template refuses the messages, PrefixBroken where it rewrites earlier turns."""
        if not row.completions and isinstance(row.prompt, list):
            return Script(self._render(row.prompt, row.tools, open_turn=True), (), templated=True)
        if all(isinstance(c, str) for c in row.completions):
            assert row.prompt is None or isinstance(row.prompt, str)
            return Script(row.prompt, tuple((Piece(str(c), True),) for c in row.completions), templated=False)
        try:
            return self._conversation(row.prompt, row.completions, row.tools)
        except BadRow:
            merged = merge_turns(row.prompt) if isinstance(row.prompt, list) else row.prompt
            whole = tuple(merge_turns(c) if isinstance(c, list) else c for c in row.completions)
            if merged == row.prompt and whole == row.completions:
                raise
            return self._conversation(merged, whole, row.tools)

    def _conversation(self, prompt: Text | None, completions: tuple[Text, ...], tools: list[Any] | None) -> Script:
        answers = [c for c in completions if isinstance(c, list)]
        if prompt is None:
            whole = self._render(answers[0], tools, open_turn=False)
            return Script(None, (self._cut_end(Piece(whole, True))[:1],), templated=True)
        assert isinstance(prompt, list)
        assert len(answers) == len(completions)
        full = [self._render([*prompt, *c], tools, open_turn=False) for c in answers]
        start = self._opening(prompt, full, tools)
        pieces = [self._pieces(prompt, c, f, start, tools) for c, f in zip(answers, full, strict=True)]
        return Script(full[0][:start], tuple(pieces), templated=True)

    def _opening(self, messages: list[Message], full: list[str], tools: list[Any] | None) -> int:
        """Characters that `messages` and the opened assistant turn take at the start of every text in `full`.

        A turn that opens with an empty thought, where the answer brings one of its own, is cut at the first difference.
        """
        opened = self._render(messages, tools, open_turn=True)
        start = min(_agree(opened, f) for f in full)
        if start < len(opened):
            closed = self._render(messages, tools, open_turn=False)
            if not opened.startswith(closed) or start < len(closed):
                raise _broken(messages, opened, full[0])
        return start

    def _pieces(
        self, prompt: list[Message], answer: list[Message], full: str, start: int, tools: list[Any] | None
    ) -> tuple[Piece, ...]:
        """The completion in stretches; the assistant's turns are to be learned, all of them."""
        pieces: list[Piece] = []
        done = start
        for i, message in enumerate(answer):
            if not is_answer(message):
                continue
            before = [*prompt, *answer[:i]]
            begin = start if i == 0 else self._opening(before, [full], tools)
            end = len(full) if i == len(answer) - 1 else self._closing([*before, message], full, tools)
            if begin > done:
                pieces.append(Piece(full[done:begin], False))
            pieces += self._cut_end(Piece(full[begin:end], True))
            done = end
        return tuple(pieces if pieces[-1].learn else pieces[:-1])

    def _closing(self, messages: list[Message], full: str, tools: list[Any] | None) -> int:
        closed = self._render(messages, tools, open_turn=False)
        if not full.startswith(closed):
            closed = closed.removesuffix(self.tokenizer.eos_token)  # some write it after the last turn only
        if not full.startswith(closed):
            raise _broken(messages, closed, full)
        return len(closed)

    def _cut_end(self, piece: Piece) -> tuple[Piece, ...]:
        """White space after the end-of-turn token is the template's, never said by the model."""
        text = piece.text.rstrip()
        if text == piece.text or not text.endswith(self.marks):
            return (piece,)
        return Piece(text, True), Piece(piece.text[len(text) :], False)

    @cached_property
    def marks(self) -> tuple[str, ...]:
        """All special tokens, as text."""
        added = (t.content for t in self.tokenizer.added_tokens_decoder.values() if t.special)
        return tuple({*self.tokenizer.all_special_tokens, *added})

    def _render(self, messages: list[Message], tools: list[Any] | None, *, open_turn: bool) -> str:
        import jinja2

        try:
            return self.tokenizer.apply_chat_template(
                messages, tools=tools, chat_template=self.template, tokenize=False, add_generation_prompt=open_turn
            )
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"data.chat_template: line {error.lineno}: {error.message}") from None
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise BadRow(f"the chat template refuses these messages: {error}") from None


def _agree(one: str, other: str) -> int:
    """Characters that both begin with."""
    if other.startswith(one):
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _broken(messages: list[Message], before: str, after: str) -> PrefixBroken:
    i = _agree(before, after)
    return PrefixBroken(f"of the first {len(messages)} messages, {before[i : i + 40]!r} became {after[i : i + 40]!r}")
