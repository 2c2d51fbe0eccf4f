"""Chat templates: which one, what it is given beside the messages, and what it makes of the beginning of a sequence.

The recipe's file, else the tokenizer's own, else `PLAIN`, which writes

    System: Be kind.

    User: What is two and two?

    Assistant: Four.</s>

with the tokenizer's end-of-sequence token after each assistant turn, and one beginning-of-sequence token in front where
the tokenizer adds one to plain text too. Arguments that the recipe gives it (`data.chat_template_kwargs`) become
defaults in its own text, so that whoever renders with it (hints, `align chat`, a server) renders as the data were.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from align.errors import UserError, did_you_mean

PLAIN = """\
{{- BOS }}
{%- for message in messages %}
{%- if message.tool_calls or tools %}
{{- raise_exception('the tokenizer has none, and the plain one no form for tools; name one: data.chat_template') }}
{%- endif %}
{%- if message.role == 'assistant' %}
{{- 'Assistant: ' + message.content + eos_token }}
{%- else %}
{{- (message.role | capitalize) + ': ' + message.content }}
{%- endif %}
{{- '' if loop.last and not add_generation_prompt else '\\n\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{%- endif %}"""
PLAINLY = (
    "the tokenizer has no chat template: conversations are written plainly, as `User: ...`, `Assistant: ...` with an "
    "end-of-sequence token; data.chat_template names a Jinja file that writes them otherwise"
)


def choose_template(tokenizer: Any, file: str = "", arguments: Mapping[str, Any] | None = None) -> str:
    """The Jinja text for messages: `file`, else the tokenizer's own, else `PLAIN` made for this tokenizer.

    `arguments` become its defaults. UserError for a file that cannot be read, and for arguments that it does not read.
    """
    if file:
        try:
            return with_defaults(Path(file).expanduser().read_text(encoding="utf-8"), arguments or {}, tokenizer)
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"data.chat_template: {file}: cannot be read: {error}; name a Jinja file") from None
    own = tokenizer.chat_template
    own = own.get("default") if isinstance(own, dict) else own
    return with_defaults(own or _plain("bos_token" if adds_bos(tokenizer) else "''"), arguments or {}, tokenizer)


def _plain(bos: str) -> str:
    return PLAIN.replace("BOS", bos)


def is_plain(template: str) -> bool:
    """Whether it is the one that tokenizers without a template get."""
    return template.endswith((_plain("bos_token"), _plain("''")))


def with_defaults(template: str, arguments: Mapping[str, Any], tokenizer: Any) -> str:
    """The template with `arguments` set where they are not given. UserError for what it does not read."""
    if not arguments:
        return template
    place = "data.chat_template_kwargs"
    taken = taken_names(tokenizer)
    for name in arguments:
        if name in taken:
            raise UserError(f"{place}.{name}: is given to every template by us; remove it")
        if unread := unread_names(template, [name]):
            near = did_you_mean(unread[0], set(re.findall(r"\b[a-z_]\w*\b", template)))
            raise UserError(f"{place}.{name}: the chat template reads nothing of this name.{near}")
    default = "{{%- if {0} is not defined %}}{{%- set {0} = {1} %}}{{%- endif %}}\n"  # Jinja drops the line's end
    return "".join(default.format(name, _literal(value)) for name, value in arguments.items()) + template


def _literal(value: Any) -> str:
    try:
        return repr(json.loads(json.dumps(value, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise UserError(f"data.chat_template_kwargs: {error}; expected text, numbers, true, false, lists") from None


def unread_names(template: str, names: Iterable[str]) -> list[str]:
    """Those that do not stand in the template at all."""
    return [n for n in names if not n.isidentifier() or not re.search(rf"\b{n}\b", template)]


def taken_names(tokenizer: Any) -> set[str]:
    """What `apply_chat_template` passes itself, or understands as something else."""
    parameters = inspect.signature(tokenizer.apply_chat_template).parameters
    return {"messages", *parameters, *tokenizer.special_tokens_map}


def give_template(tokenizer: Any, template: str) -> None:
    """Makes `template` the tokenizer's own; those that it has under other names stay. Empty text changes nothing."""
    if template:
        own = tokenizer.chat_template
        tokenizer.chat_template = {**own, "default": template} if isinstance(own, dict) else template


def adds_bos(tokenizer: Any) -> bool:
    """Whether this tokenizer puts its beginning-of-sequence token before plain text by itself."""
    return tokenizer.bos_token_id is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]


def own_bos(tokenizer: Any, template: Any) -> int | None:
    """The token that begins a sequence and may stand in it once.

    None where there is none, and where `template` opens every turn with it (ChatML's `<|im_start|>`): there it is one
    of the turn's marks.
    """
    template = template.get("default") if isinstance(template, dict) else template
    if tokenizer.bos_token_id is None or not template:
        return tokenizer.bos_token_id
    talk = [{"role": role, "content": "a"} for role in ("user", "assistant")]
    try:
        text = tokenizer.apply_chat_template(talk, chat_template=template, tokenize=False)
    except Exception:  # a template is a program, which may refuse such a talk with anything
        return tokenizer.bos_token_id
    opens = text.count(tokenizer.bos_token) > 1 and tokenizer.bos_token != tokenizer.eos_token
    return None if opens else tokenizer.bos_token_id
