"""Columns of a file under the names that we know: as they are, mapped, or filled into a template.

    prompt: question                        another name
    prompt: "{instruction}\\n{input}"        text and numbers, joined; trailing white space is dropped
    system: ""                              not read, though there is a column of this name
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from string import Formatter
from typing import Any

from align.data.reading.messages import BadRow, kind_of, written_out
from align.data.reading.notation import is_message
from align.errors import UserError, did_you_mean

TEXT_COLUMNS = ("text", "messages", "conversations", "prompt", "completion", "chosen", "rejected")
NUMBER_COLUMNS = ("label", "margin", "soft_label")
OTHER_COLUMNS = ("tools", "system", "chat_template_kwargs")
SPOKEN = frozenset({  # parts of a dialogue, whatever the row is for
    "system", "system_prompt", "system_message", "system_instruction", "sys_prompt", "history", "chat_history",
    "context", "dialog", "dialogue", "conversation", "conversations", "messages", "functions",
})  # fmt: skip
ASKED = frozenset({  # likewise, unless rewards read them; another answer (`output`) beside the one that is read is none
    "instruction", "input", "question", "query", "prompt", "thinking", "reasoning", "reasoning_content",
})  # fmt: skip


def check_mapping(columns: Mapping[str, str], numbers: Iterable[str]) -> None:
    """UserError for a name of ours that there is not, and for a template that cannot be filled."""
    known = (*TEXT_COLUMNS, *NUMBER_COLUMNS, *OTHER_COLUMNS, *numbers)
    for ours, theirs in columns.items():
        if ours not in known:
            raise UserError(
                f"data.columns.{ours}: no such column; accepted: {', '.join(dict.fromkeys(known))}."
                + did_you_mean(ours, known)
            )
        _parts(ours, theirs)


def check_answers(columns: Mapping[str, str], kind: str) -> None:
    """UserError for a prompt that is read from a column of answers: the answer would stand in its own prompt."""
    sides = {"pairs": ("chosen", "rejected"), "unpaired": ("chosen", "rejected"), "demonstrations": ("completion",)}
    asked = names_in("prompt", columns.get("prompt", "prompt"))
    for side in ("completion",) if "completion" in columns else sides.get(kind, ()):
        if both := [name for name in names_in(side, columns.get(side, side)) if name in asked]:
            cure = "leave it out: what `chosen` and `rejected` both begin with is taken for the prompt"
            raise UserError(
                f"data.columns.prompt: reads {both[0]}, which is the answer `{side}`: the prompt would hold it; "
                + (cure if kind != "demonstrations" else "name the column of the question alone")
            )


def check_there(columns: Mapping[str, str], there: Iterable[str], source: str) -> None:
    """UserError where a mapping names a column that the first row does not have."""
    there = list(there)
    for ours, theirs in columns.items():
        for name in names_in(ours, theirs):
            if name not in there:
                raise UserError(
                    f"data.columns.{ours}: {source} has no column {name}; it has {', '.join(there)}."
                    + did_you_mean(name, there)
                )


def is_template(theirs: str) -> bool:
    return "{" in theirs or "}" in theirs


def names_in(ours: str, theirs: str) -> list[str]:
    """The file's columns that a mapping reads."""
    if not is_template(theirs):
        return [theirs] if theirs else []
    return [name for _, name in _parts(ours, theirs) if name is not None]


def fill(ours: str, template: str, raw: Mapping[str, Any], as_text: Callable[[Any], Any]) -> str:
    """The template with the row's values, each read as text. BadRow where one is missing, or is a conversation."""
    filled = ""
    for literal, name in _parts(ours, template):
        value = "" if name is None else raw.get(name, BadRow)
        if value is BadRow:
            raise BadRow(f"no column {name}, which data.columns.{ours} needs; {there_are(raw)}")
        if isinstance(value, list | dict):
            raise BadRow(f"column {name} is {kind_of(value)}; data.columns.{ours} takes text and numbers")
        if isinstance(value, str) and written_out(value, str(name)) is not None:
            raise BadRow(f"column {name} is a conversation as text; name it alone: data.columns.{ours}: {name}")
        filled += literal + ("" if value is None else as_text(str(value)))
    return filled.rstrip()


def unused(raw: Mapping[str, Any], used: Iterable[str], for_rewards: bool) -> list[str]:
    """Columns with something in them that look like part of the dialogue and that nobody has read."""
    names = SPOKEN if for_rewards else SPOKEN | ASKED
    left = [c for c in raw if c not in set(used) and raw[c] not in (None, "", [], {})]
    return [c for c in left if str(c).lower() in names or (not for_rewards and _is_talk(raw[c]))]


def _is_talk(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_message, value))


def there_are(raw: Mapping[str, Any]) -> str:
    return f"the row has {', '.join(map(str, raw))}" if raw else "the row has no columns"


def _parts(ours: str, theirs: str) -> list[tuple[str, str | None]]:
    """A template as (literal text, column name or None) in turn."""
    try:
        parts = [(literal, name) for literal, name, _, _ in Formatter().parse(theirs)]
    except ValueError as error:
        raise UserError(f"data.columns.{ours}: {error} in {theirs!r}; write {{{{ and }}}} for braces") from None
    if any(name == "" for _, name in parts):
        raise UserError(f"data.columns.{ours}: empty braces in {theirs!r}; name a column between them")
    return parts
