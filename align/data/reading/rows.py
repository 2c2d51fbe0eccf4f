"""Raw rows with the file's columns become typed rows: a prompt and the completions that a loss needs together.

Columns have TRL's names: `text`; `messages` (or ShareGPT's `conversations`); `prompt` + `completion` (+ `label`);
`prompt` + `chosen` + `rejected`; beside any of them `system`, which becomes the system turn, `tools`, and
`chat_template_kwargs`. Other names are mapped by `data.columns`: a bare column name, or a template such as
"{instruction}\n{input}" whose trailing white space is dropped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from align.batches import RowKind
from align.data.reading.columns import (
    TEXT_COLUMNS,
    check_answers,
    check_mapping,
    check_there,
    fill,
    is_template,
    names_in,
    there_are,
    unused,
)
from align.data.reading.messages import BadRow, Text, as_messages, is_answer, is_empty, kind_of, without_nulls
from align.data.reading.notation import read_value
from align.data.reading.pairs import SPLIT, of_conversations, without_prompt
from align.data.reading.texts import Texts
from align.data.text.special import plain
from align.errors import UserError

MEMBERS: dict[RowKind, int] = {"demonstrations": 1, "pairs": 2, "unpaired": 1, "prompts": 1}  # a prompt's is empty
EXPECTED = {"tools": "a list of tool descriptions", "chat_template_kwargs": "an object"}
LABELS = {"true": 1.0, "false": 0.0, "1": 1.0, "0": 0.0}  # CSV knows only text


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the template and the tokenizer turn into a group."""

    prompt: Text | None  # None: there is none, every token after the first is to be learned
    completions: tuple[Text, ...]  # in the order of the batch type's members
    key: str  # the prompt as text; rows of one key fall into one split
    numbers: dict[str, float]
    tools: list[Any] | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)  # what the template is given beside the messages
    extras: dict[str, Any] = field(default_factory=dict)  # of a prompt: every column, as rewards are to see it
    told: tuple[str, ...] = ()  # what is worth knowing about it


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How the rows of one source are read."""

    kind: RowKind
    numbers: tuple[str, ...] = ()
    loss_on: Literal["assistant", "completion", "all"] = "completion"
    columns: Mapping[str, str] = field(default_factory=dict)
    filled_in: bool = False  # by Arrow, with nulls for the keys of other rows, which messages and tools lose
    as_text: Callable[[Any], Any] = field(default=lambda value: value)  # is done to texts, and to what holds some

    def __post_init__(self):
        check_mapping(self.columns, self.numbers)
        check_answers(self.columns, self.kind)
        if self.loss_on == "all" and self.kind != "demonstrations":
            raise UserError("data.loss_on: `all` is for demonstrations; this method compares completions of one prompt")

    def check_columns(self, there: Iterable[str], source: str) -> None:
        """UserError where a mapping names a column that the first row does not have."""
        check_there(self.columns, there, source)

    def read(self, raw: Mapping[str, Any]) -> list[Row]:
        """One row, or two where a pair is taken apart. BadRow says what is wrong and what would help."""
        values = {c: self._value(raw, c) for c in (*TEXT_COLUMNS, "system")}
        there = {c: v for c, v in values.items() if v is not None}
        texts = Texts(there, {c for c in there if is_template(self.columns.get(c, ""))}, self.as_text)
        texts.nulls |= {c for c, v in values.items() if v is None and self.columns.get(c, c) in raw}
        numbers = {n: _number(v, n) for n in self.numbers if n != "label" and (v := self._value(raw, n)) is not None}
        if self.kind == "prompts":
            rows = [_prompt_row(texts, raw)]
        elif self.kind == "demonstrations":
            rows = [self._demonstration(texts, raw)]
        elif self.kind == "pairs":
            prompt, chosen, rejected = _pair(texts, raw)
            rows = [Row(prompt=prompt, completions=(chosen, rejected), key=_key(prompt), numbers={})]
        else:
            rows = self._unpaired(texts, raw)
        tools = self.as_text(_decoded(self._value(raw, "tools"), "tools", list))
        arguments = _decoded(self._value(raw, "chat_template_kwargs"), "chat_template_kwargs", dict) or {}
        told = tuple(dict.fromkeys([*texts.told, *self._unused(texts.read, raw)]))
        beside: dict[str, Any] = {"tools": tools, "template_kwargs": arguments, "told": told}
        if self.kind == "prompts":
            found = {"tools": tools, "chat_template_kwargs": arguments}
            beside["extras"] = {**rows[0].extras, **{k: v for k, v in found.items() if v}}
        return [Row(**{**vars(r), "numbers": {**numbers, **r.numbers}, **beside}) for r in rows]

    def _value(self, raw: Mapping[str, Any], ours: str) -> Any:
        theirs = self.columns.get(ours, ours)
        if ours in self.columns and is_template(theirs):
            return fill(ours, theirs, raw, self.as_text)
        return without_nulls(raw.get(theirs)) if self.filled_in else raw.get(theirs)

    def _unused(self, read: set[str], raw: Mapping[str, Any]) -> list[str]:
        ours = {*read, *self.numbers, "label", "tools", "chat_template_kwargs"}
        used = {name for o in ours for name in names_in(o, self.columns.get(o, o))}
        used |= {o for o, theirs in self.columns.items() if not theirs}  # left out by the recipe's word
        found = unused(raw, used, self.kind == "prompts")
        return [f"the column `{c}` looks like part of the dialogue and is not used (data.columns)" for c in found]

    def _demonstration(self, texts: Texts, raw: Mapping[str, Any]) -> Row:
        if "completion" in texts.nulls and not {"messages", "text"} & texts.values.keys():
            raise BadRow("`completion` is null; data.bad_rows: drop leaves such rows out")
        if "completion" in texts:
            prompt, completion = _answered(_prompt(texts, raw), texts["completion"], "completion")
            if self.loss_on == "all":
                return Row(prompt=None, completions=(_join(prompt, completion),), key=_key(prompt), numbers={})
            return Row(prompt=prompt, completions=(completion,), key=_key(prompt), numbers={})
        if "messages" in texts:
            return self._conversation(texts["messages"])
        if "text" not in texts:
            hint = " To imitate the chosen answers, map data.columns.completion to chosen." if "chosen" in texts else ""
            raise BadRow(f"needs `text`, `messages`, or `prompt` and `completion`; {there_are(raw)}.{hint}")
        text = texts["text"]
        if isinstance(text, list):
            return self._conversation(text)
        if not isinstance(text, str) or is_empty(text):
            raise BadRow("`text` must be a string with something in it")
        return Row(prompt=None, completions=(text,), key=text, numbers={})

    def _conversation(self, messages: Text) -> Row:
        if isinstance(messages, str):
            raise BadRow("`messages` must be a list of messages, found a string; plain text belongs into `text`")
        answers = [i for i, m in enumerate(messages) if is_answer(m)]
        if not answers or is_empty(messages):
            raise BadRow("`messages` has no assistant turn to learn from")
        first = answers[0] if self.loss_on != "completion" else len(messages) - 1
        if self.loss_on == "all":
            return Row(prompt=None, completions=(messages,), key=_key(messages[:first]), numbers={})
        prompt, completion = _answered(messages[:first], messages[first:], "messages")
        if not prompt:
            raise BadRow("`messages` starts with the assistant; put a user or system message before it")
        return Row(prompt=prompt, completions=(completion,), key=_key(prompt), numbers={})

    def _unpaired(self, texts: Texts, raw: Mapping[str, Any]) -> list[Row]:
        label = self._value(raw, "label")
        if label is None and "chosen" in texts and "rejected" in texts:
            prompt, *answers = _pair(texts, raw)
            sides = zip(answers, (1.0, 0.0), strict=True)
            return [Row(prompt=prompt, completions=(a,), key=_key(prompt), numbers={"label": n}) for a, n in sides]
        if label is None:
            raise BadRow(f"needs `label` (true or false), or `chosen` and `rejected`; {there_are(raw)}")
        if "completion" in texts:
            prompt, completion = _answered(_prompt(texts, raw), texts["completion"], "completion")
        elif "messages" in texts and isinstance(messages := texts["messages"], list):
            prompt, completion = _answered(messages[:-1], messages[-1:], "messages")
        else:
            raise BadRow(f"needs `prompt` and `completion`, or `messages`; {there_are(raw)}")
        return [Row(prompt=prompt, completions=(completion,), key=_key(prompt), numbers={"label": _label(label)})]


def _prompt(texts: Texts, raw: Mapping[str, Any]) -> Text:
    for name in ("prompt", "messages"):
        if name in texts:
            return texts[name]
    raise BadRow(f"no `prompt`; {there_are(raw)}. Map one of them with data.columns.prompt")


def _prompt_row(texts: Texts, raw: Mapping[str, Any]) -> Row:
    """A prompt to be answered; a conversation loses its last answer, which rewards still see in its column."""
    prompt = _prompt(texts, raw)
    if isinstance(prompt, list):
        answers = [i for i, m in enumerate(prompt) if is_answer(m)]
        if answers and answers[-1] == len(prompt) - 1:
            prompt = prompt[:-1]
        if not prompt:
            raise BadRow("`prompt` has no message to answer")
    elif is_empty(prompt):
        raise BadRow("`prompt` is empty")
    return Row(prompt=prompt, completions=(), key=_key(prompt), numbers={}, extras={**raw, "prompt": prompt})


def _pair(texts: Texts, raw: Mapping[str, Any]) -> tuple[Text, Text, Text]:
    for name in ("chosen", "rejected"):
        if name in texts.nulls:
            raise BadRow(f"`{name}` is null; data.bad_rows: drop leaves such rows out")
        if name not in texts:
            raise BadRow(f"no `{name}`; {there_are(raw)}. Map one of them with data.columns.{name}")
    chosen, rejected = texts["chosen"], texts["rejected"]
    if chosen == rejected:
        raise BadRow("`chosen` equals `rejected`: there is no preference in this row")
    whole = of_conversations(chosen, rejected)
    if whole is None and not ({"prompt", "messages"} & texts.values.keys()):
        others = [str(c) for c in raw if c not in texts.values]
        if (whole := without_prompt(chosen, rejected, others)) is not None:
            texts.told.append(SPLIT)
    prompt, chosen, rejected = whole or (_prompt(texts, raw), chosen, rejected)
    prompt_c, chosen = _answered(prompt, chosen, "chosen")
    _, rejected = _answered(prompt, rejected, "rejected")
    if type(chosen) is not type(rejected):
        return as_messages(prompt, "user"), as_messages(chosen, "assistant"), as_messages(rejected, "assistant")
    return prompt_c, chosen, rejected


def _answered(prompt: Text, completion: Text, column: str) -> tuple[Text, Text]:
    """Both as strings or both as messages; the completion ends with an assistant turn and says something."""
    if isinstance(prompt, list) and not prompt and column != "messages":
        raise BadRow("`prompt` has no message")
    if isinstance(prompt, list) or isinstance(completion, list):
        prompt, completion = as_messages(prompt, "user"), as_messages(completion, "assistant")
        if completion and not is_answer(completion[-1]):
            role = completion[-1]["role"]
            raise BadRow(f"`{column}` ends with a {role} turn where an assistant turn is needed; drop the last message")
        if completion and not is_answer(completion[0]):
            raise BadRow(f"`{column}` must start with an assistant turn, found {completion[0]['role']}")
    if is_empty(completion):
        raise BadRow(f"`{column}` is empty: there is nothing to learn from")
    return prompt, completion


def _join(prompt: Text, completion: Text) -> Text:
    return prompt + completion  # type: ignore[operator]  # `_answered` made them alike


def _key(prompt: Text) -> str:
    prompt = plain(prompt)
    if isinstance(prompt, str):
        return prompt
    if len(prompt) == 1 and prompt[0]["role"] == "user":
        return prompt[0]["content"]
    return json.dumps(prompt, sort_keys=True, ensure_ascii=False, default=str)


def _number(value: Any, column: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise BadRow(f"`{column}` must be a number, found {kind_of(value)}") from None
    if not math.isfinite(number):
        raise BadRow(f"`{column}` must be a finite number, found {number}")
    return number


def _label(value: Any) -> float:
    number = LABELS.get(str(value).lower())
    if number is None:
        raise BadRow(f"`label` must be true or false, found {kind_of(value)}")
    return number


def _decoded(value: Any, column: str, kind: type) -> Any:
    """A list or an object, also where a text writes it out; None where it is empty."""
    if isinstance(value, str):
        try:
            value = read_value(value) if value.strip() else None
        except ValueError as error:
            raise BadRow(f"`{column}` is a string that is not JSON: {error}") from None
    if value is not None and not isinstance(value, kind):
        raise BadRow(f"`{column}` must be {EXPECTED[column]}, found {kind_of(value)}")
    return [_decoded(v, column, dict) if isinstance(v, str) else v for v in value] if isinstance(value, list) else value
