"""Rows become text: what the prompt is, what follows, and which stretches of it the model is to learn.

Strings stay as they are. Messages go through the chat template. Beginning and end are the template's business alone:
nothing is added to them unless the last turn has no end at all.

A template is trusted only as far as it leaves earlier text alone: what was rendered for the first messages must open
what is rendered for all of them, or the loss mask would stand in the wrong place.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from align.data.reading.calls import Calls
from align.data.reading.messages import BadRow, Message, is_answer, is_learned, merge_turns
from align.data.reading.rows import Row
from align.data.text.special import Names, plain, special_names
from align.data.text.template import adds_bos, taken_names, unread_names
from align.errors import UserError

THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")  # of a message, beside its content


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
    told: tuple[str, ...] = ()  # what is worth knowing about it


def check_characters(script: Script) -> None:
    """BadRow for half a surrogate pair, which JSON can write ("\\ud83d") and no tokenizer can read."""
    text = (script.prompt or "") + "".join(piece.text for pieces in script.completions for piece in pieces)
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start + 20]
        raise BadRow(f"has {text[error.start]!a}, half of a character, near {near!a}; write the whole of it") from None


@dataclass(frozen=True)
class Writer:
    """Turns rows into scripts with one template."""

    tokenizer: Any
    template: str
    loss_on: Literal["assistant", "completion", "all"] = "completion"
    names: Names | None = None  # of special tokens, which the rows' texts have set apart
    calls: Calls = field(default_factory=Calls)

    def as_text(self, value: Any) -> Any:
        """What the rows hold, with the names of special tokens set apart."""
        return self.names.as_text(value) if self.names else value

    def script(self, row: Row) -> Script:
        """BadRow where the template refuses the messages, PrefixBroken where it rewrites earlier turns."""
        script = self._script(row)
        told = list(row.told)
        if script.templated and row.template_kwargs:
            unread = unread_names(self.template, row.template_kwargs)
            told += [f"`chat_template_kwargs` has {name}, which the chat template does not read" for name in unread]
        texts = (script.prompt or "", *(piece.text for pieces in script.completions for piece in pieces))
        for answer in row.completions:
            told += _thoughts_left_out(answer, "".join(texts)) if isinstance(answer, list) else []
        if self.names is not None:
            named = dict.fromkeys(name for text in texts for name in self.names.found(text))
            told += [f"{name} is text there, not the token: data.special_tokens allows it" for name in named]
        return replace(script, told=tuple(told))

    def _script(self, row: Row) -> Script:
        if not row.completions and isinstance(row.prompt, list):
            (asked,) = self._fitted(row, row.prompt)
            return Script(self._render(asked, row, open_turn=True), (), templated=True)
        if all(isinstance(c, str) for c in row.completions):
            return self._strings(row)
        try:
            return self._conversation(row)
        except BadRow:
            merged = merge_turns(row.prompt) if isinstance(row.prompt, list) else row.prompt
            whole = tuple(merge_turns(c) if isinstance(c, list) else c for c in row.completions)
            if merged == row.prompt and whole == row.completions:
                raise
            return self._conversation(replace(row, prompt=merged, completions=whole))

    def _strings(self, row: Row) -> Script:
        assert row.prompt is None or isinstance(row.prompt, str)
        prompt = row.prompt if row.prompt is None else self._as_token(row.prompt, self.bos, first=True)
        ended = [self._as_token(str(c), self.tokenizer.eos_token, first=False) for c in row.completions]
        if prompt is None:
            ended = [self._as_token(c, self.bos, first=True) for c in ended]
        return Script(prompt, tuple((Piece(c, True),) for c in ended), templated=False)

    def _as_token(self, text: str, name: str | None, *, first: bool) -> str:
        """A beginning or an end that a text itself has is the token which is added otherwise, whoever wrote it."""
        apart = self.as_text(name)
        if not apart or not (text.startswith(apart) if first else text.endswith(apart)):
            return text
        return f"{name}{text.removeprefix(apart)}" if first else f"{text.removesuffix(apart)}{name}"

    @cached_property
    def bos(self) -> str | None:
        """What is put before plain text."""
        return self.tokenizer.bos_token if adds_bos(self.tokenizer) else None

    def _fitted(self, row: Row, *parts: list[Message]) -> list[list[Message]]:
        """Messages whose tool calls are as the template reads them."""

        def render(messages: list[Message]) -> str:
            return self._render(messages, row, open_turn=False)

        return self.calls.fitted(parts, render, lambda value: self.as_text(plain(value)))

    def _conversation(self, row: Row) -> Script:
        answers = [c for c in row.completions if isinstance(c, list)]
        if row.prompt is None:
            (messages,) = self._fitted(row, answers[0])
            return Script(None, (self._whole(messages, row),), templated=True)
        assert isinstance(row.prompt, list)
        assert len(answers) == len(row.completions)
        fitted = [self._fitted(row, row.prompt, c) for c in answers]
        prompt, answers = fitted[0][0], [c for _, c in fitted]
        full = [self._render([*prompt, *c], row, open_turn=False) for c in answers]
        start = self._opening(prompt, full, row)
        pieces = [self._pieces(prompt, c, f, start, row) for c, f in zip(answers, full, strict=True)]
        return Script(full[0][:start], tuple(pieces), templated=True)

    def _whole(self, messages: list[Message], row: Row) -> tuple[Piece, ...]:
        """All turns but those that the data leave out."""
        full = self._render(messages, row, open_turn=False)
        if all(map(is_learned, messages)):
            return self._cut_end(Piece(full, True))[:1]
        pieces: list[Piece] = []
        done = 0
        for i, message in enumerate(messages):
            end = len(full) if i == len(messages) - 1 else self._closing(messages[: i + 1], full, row)
            piece = Piece(full[done:end], is_learned(message))
            pieces += self._cut_end(piece) if piece.learn else [piece]
            done = end
        return _learned(pieces)

    def _opening(self, messages: list[Message], full: list[str], row: Row) -> int:
        """Characters that `messages` and the opened assistant turn take at the start of every text in `full`.

        A turn that opens with an empty thought, where the answer brings one of its own, is cut at the first difference.
        """
        opened = self._render(messages, row, open_turn=True)
        start = min(_agree(opened, f) for f in full)
        if start < len(opened):
            closed = self._render(messages, row, open_turn=False)
            if not opened.startswith(closed) or start < len(closed):
                raise _broken(messages, opened, full[0])
        return start

    def _pieces(
        self, prompt: list[Message], answer: list[Message], full: str, start: int, row: Row
    ) -> tuple[Piece, ...]:
        """The completion in stretches; the assistant's turns are to be learned, unless the data leave them out."""
        pieces: list[Piece] = []
        done = start
        for i, message in enumerate(answer):
            if not is_answer(message) or not is_learned(message):
                continue
            before = [*prompt, *answer[:i]]
            begin = start if i == 0 else self._opening(before, [full], row)
            end = len(full) if i == len(answer) - 1 else self._closing([*before, message], full, row)
            if begin > done:
                pieces.append(Piece(full[done:begin], False))
            pieces += self._cut_end(Piece(full[begin:end], True))
            done = end
        if pieces and not any(self._says(piece) for piece in pieces):
            raise BadRow("the chat template leaves nothing of what the assistant says")
        return _learned(pieces)

    def _says(self, piece: Piece) -> bool:
        """Whether there is more to learn than the end of a turn."""
        text = piece.text.strip()
        while text.endswith(self.marks):
            text = next(text.removesuffix(m) for m in self.marks if text.endswith(m)).strip()
        return piece.learn and bool(text)

    def _closing(self, messages: list[Message], full: str, row: Row) -> int:
        closed = self._render(messages, row, open_turn=False)
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
        return tuple(special_names(self.tokenizer))

    @cached_property
    def taken(self) -> set[str]:
        return taken_names(self.tokenizer)

    def _render(self, messages: list[Message], row: Row, *, open_turn: bool) -> str:
        import jinja2

        if taken := self.taken.intersection(row.template_kwargs):
            raise BadRow(f"`chat_template_kwargs` has {min(taken)}, which every template is given by us; remove it")
        try:
            return self.tokenizer.apply_chat_template(
                messages, tools=row.tools, chat_template=self.template, tokenize=False, add_generation_prompt=open_turn,
                **row.template_kwargs,
            )  # fmt: skip
        except jinja2.TemplateSyntaxError as error:
            raise UserError(f"data.chat_template: line {error.lineno}: {error.message}") from None
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise BadRow(f"the chat template refuses these messages: {error}") from None


def _thoughts_left_out(answer: list[Message], text: str) -> list[str]:
    """Of the last turn, since templates leave out those of earlier ones on purpose."""
    said = {key: answer[-1].get(key) for key in THOUGHTS}
    return [f"the chat template leaves out `{k}` of the last answer" for k, v in said.items()
            if isinstance(v, str) and v.strip() and v.strip() not in text]  # fmt: skip


def _learned(pieces: list[Piece]) -> tuple[Piece, ...]:
    """Up to the last stretch that is learned. BadRow where there is none."""
    last = max((i for i, piece in enumerate(pieces, start=1) if piece.learn), default=0)
    if not last:
        raise BadRow("every turn that could be learned is marked as not to be (`weight: 0`)")
    return tuple(pieces[:last])


def _agree(one: str, other: str) -> int:
    """Characters that both begin with."""
    if other.startswith(one):
        return len(one)
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _broken(messages: list[Message], before: str, after: str) -> PrefixBroken:
    i = _agree(before, after)
    return PrefixBroken(f"of the first {len(messages)} messages, {before[i : i + 40]!r} became {after[i : i + 40]!r}")
