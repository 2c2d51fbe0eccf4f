"""Conversations in one shape: lists of `{"role": ..., "content": ...}`, whatever they were called in the file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from align.data.reading.notation import conversation_in
from align.errors import did_you_mean

Message = dict[str, Any]
Text = str | list[Message]

ROLES = ("system", "developer", "user", "assistant", "tool")
OTHER_NAMES = {  # ShareGPT's `from`, and what other tools write
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}


LEARNED = ("weight", "loss_weight", "train", "training", "trainable", "learn", "loss")  # of a turn: 0 or false
NOT_LEARNED = ("mask", "masked", "ignore", "ignored")  # likewise: 1 or true
PARTLY = ("train_detail", "training_detail")  # some characters of a turn
TRUTH = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


class BadRow(ValueError):
    """A row that cannot be used: the finding and the cure, without the place."""


def to_text(value: Any, column: str) -> Text:
    """A string as it is; a message or a list of them in our shape, also where a string writes them out (JSON, or as
    Python prints them). BadRow for anything else."""
    if isinstance(value, str):
        written = written_out(value, column)
        return value if written is None else to_text(written, column)
    if isinstance(value, dict):
        keys = [k for k, v in value.items() if isinstance(v, list) and k in ("role", "from", "content", "value")]
        if len(keys) > 1:  # a column for each key, as datasets.Sequence makes of a list of objects
            value = [dict(zip(value, told, strict=True)) for told in _across(value, column)]
            return to_text(value, column)
        return [to_message(value, column, 0)]
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [to_message(message, column, i) for i, message in enumerate(value)]
    raise BadRow(f"`{column}` must be a string or a list of messages, found {kind_of(value)}")


def written_out(text: str, column: str) -> Any:
    """The messages that a text writes out, or None. BadRow for what looks like some and cannot be read."""
    try:
        return conversation_in(text)
    except ValueError as error:
        finding = f"`{column}` looks like a conversation written as text, and cannot be read: {error}"
        raise BadRow(f"{finding}; save the rows as JSON lines or Parquet, or the cell as JSON") from None


def _across(value: dict[str, Any], column: str) -> Any:
    try:
        return list(zip(*value.values(), strict=True))
    except (TypeError, ValueError):
        raise BadRow(f"`{column}` has a list for each key, and not all of one length") from None


def to_message(raw: Any, column: str, position: int) -> Message:
    """`role`/`content` or `from`/`value`; keys without a value are dropped (Parquet fills them in).

    A turn that is not to be learned, whatever says so, has `weight: 0`.
    """
    where = f"`{column}`, message {position + 1}"
    if not isinstance(raw, dict):
        raise BadRow(f"{where}: must be an object with `role` and `content`, found {kind_of(raw)}")
    message = {k: v for k, v in raw.items() if v is not None}
    if "role" not in message and "from" in message:
        message["role"] = message.pop("from")
    if "content" not in message and "value" in message:
        message["content"] = message.pop("value")
    if isinstance(message.get("function_call"), dict) and "tool_calls" not in message:
        message["tool_calls"] = [{"type": "function", "function": message.pop("function_call")}]
    role = message.get("role")
    role = OTHER_NAMES.get(role, role) if isinstance(role, str) else role
    if role not in ROLES:
        near = did_you_mean(role, ROLES) if isinstance(role, str) else ""
        raise BadRow(f"{where}: role is {role!r}; accepted: {', '.join(ROLES)} (or ShareGPT's human, gpt).{near}")
    weight = {} if _weight(message, where) else {"weight": 0}
    return {**message, "role": role, "content": _content(message, where), **weight}


def _weight(message: Message, where: str) -> bool:
    """Whether a turn may be learned; takes the keys away that say so."""
    said: list[bool] = []
    for key in (*LEARNED, *NOT_LEARNED):
        truth = TRUTH.get(str(message.get(key)).lower())
        if truth is not None:
            said.append(truth == (key in LEARNED))
            del message[key]
        elif key in message and "weight" in key:
            raise BadRow(f"{where}: {key} is {message[key]!r}; a turn is learned or not: 1 or 0")
    if part := next((key for key in PARTLY if message.get(key)), None):
        raise BadRow(f"{where}: {part} marks parts of a turn; only whole turns are left out (`weight: 0`)")
    return all(said)


def _content(message: Message, where: str) -> str:
    content = message.get("content", "" if "tool_calls" in message else None)
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        return "".join(part["text"] for part in content)
    raise BadRow(f"{where}: `content` must be a string (or text parts), found {kind_of(content)}")


def without_nulls(value: Any) -> Any:
    """Without the keys that have no value, however deep; lists keep theirs."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


def is_answer(message: Message) -> bool:
    return message["role"] == "assistant"


def is_empty(text: Text) -> bool:
    """No word, and no tool call, that a model could learn to say."""
    if isinstance(text, str):
        return not text.strip()
    return not any(m["content"].strip() or m.get("tool_calls") for m in text if is_answer(m))


def as_messages(text: Text, role: str) -> list[Message]:
    return [{"role": role, "content": text}] if isinstance(text, str) else text


def is_learned(message: Message) -> bool:
    """Whether the data let a turn be learned; whose turn it is is another question."""
    return message.get("weight") != 0


def merge_turns(messages: list[Message]) -> list[Message]:
    """Neighbours of one role as one message, a blank line between: for templates that insist on alternation."""
    merged: list[Message] = []
    for message in messages:
        plain = not message.get("tool_calls") and message["role"] != "tool"
        plain = plain and bool(merged) and is_learned(merged[-1]) == is_learned(message)
        if plain and merged[-1]["role"] == message["role"] and not merged[-1].get("tool_calls"):
            merged[-1] = {**merged[-1], "content": f"{merged[-1]['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged


def kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {str(value)[:40]!r}"
