"""Arguments of tool calls, in the form that a chat template reads: an object, or JSON text as OpenAI's exports have it.

A template that writes `arguments | tojson` puts quotes around a text and learns to say so; one that joins `arguments`
to other text refuses an object, or writes it as Python prints it. Which it is shows when both are rendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from align.data.reading.messages import BadRow, Message
from align.data.reading.notation import read_value

Form = Literal["object", "text", "either"]
KEY, VALUE = "qzxkey", "qzxvalue"  # no template has them
PROBES: dict[Form, Any] = {"object": {KEY: VALUE}, "text": json.dumps({KEY: VALUE})}
QUOTED = re.compile(rf"'{KEY}'\s*:|\\+\"{KEY}|&#3[49];{KEY}|\\u0022{KEY}")  # as Python prints it, or quoted once more
Render = Callable[[list[Message]], str]
Arguments = Callable[[Any, str], Any]  # what the arguments of a call of that name become


@dataclass
class Calls:
    """What is known of one template."""

    form: Form | None = None  # None: no call has been seen

    def fitted(self, messages: Sequence[list[Message]], render: Render, again: Callable[[Any], Any]) -> list[Any]:
        """The lists of messages, which follow each other, with arguments as the template reads them.

        `again` is done to what has been read from text. BadRow where a template leaves calls out, and for arguments
        that are no object where it wants one.
        """
        whole = [m for part in messages for m in part]
        if not any(m.get("tool_calls") for m in whole):
            return list(messages)
        self.form = self.form or _form(whole, render)
        if self.form == "text":
            return [_changed(part, _written) for part in messages]
        if self.form == "object":
            return [_changed(part, lambda value, name: _read(value, name, again)) for part in messages]
        return list(messages)


def _form(messages: list[Message], render: Render) -> Form | None:
    """None where these messages cannot be rendered, whatever the form; then the template says why."""
    seen = ""
    for form, probe in PROBES.items():
        try:
            text = render(_changed(messages, lambda value, name, probe=probe: probe))
        except BadRow:
            continue
        if VALUE in text and not QUOTED.search(text):
            return form
        seen += text or " "
    if seen and VALUE not in seen:
        raise BadRow("the chat template leaves out the arguments of tool calls; name another with data.chat_template")
    return "either" if seen else None


def _changed(messages: list[Message], change: Arguments) -> list[Message]:
    return [{**m, "tool_calls": [_call(c, change) for c in m["tool_calls"]]} if m.get("tool_calls") else m
            for m in messages]  # fmt: skip


def _call(call: Any, change: Arguments) -> Any:
    """Calls are `{function: {name, arguments}}`, or what stands in `function` alone."""
    if not isinstance(call, dict):
        return call
    if isinstance(call.get("function"), dict):
        return {**call, "function": _call(call["function"], change)}
    return {**call, "arguments": change(call["arguments"], str(call.get("name")))} if "arguments" in call else call


def _written(value: Any, name: str) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value


def _read(value: Any, name: str, again: Callable[[Any], Any]) -> Any:
    if not isinstance(value, str):
        return value
    try:
        found = read_value(value) if value.strip() else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise BadRow(f"the arguments of the call of {name} are a text that holds no JSON object: {value[:40]!r}")
    return again(found)
