"""What the tests of dialogues share: templates of several manners, and rows from file to text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from align.batches import RowKind
from align.data.prepare import Splits, prepare
from align.data.settings import DataSection
from align.data.text.describe import describe

TURNS = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
STRIPS = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content.split('</think>')[-1] + '<|im_end|>\\n' }}
{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
THINKS = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{{- m.content + '<|im_end|>\\n' }}{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}"""
CALLS = """\
{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content }}
{%- for c in m.tool_calls or [] %}{{- c.function.name + ' ' + (ARGUMENTS) }}{%- endfor %}
{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def prepared(folder: Path, rows: list[dict[str, Any]], tokenizer: Any, kind: RowKind, **section: Any) -> Splits:
    """`template` is the text of one."""
    name = f"rows{len(list(folder.glob('rows*')))}.jsonl"
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if template := section.pop("template", ""):
        (folder / "t.jinja").write_text(template, encoding="utf-8")
        section["chat_template"] = str(folder / "t.jinja")
    made = DataSection(**{"train": str(folder / name), **section})
    return prepare(made, kind, ("label",) if kind == "unpaired" else (), tokenizer, folder / "cache")


def texts(splits: Splits, tokenizer: Any, part: str = "", row: int = 0) -> list[str]:
    """Of each member of a row: all of it, or what is `prompt`, `learned` or `context`."""
    members = describe(splits.train, tokenizer, row)
    return ["".join(seen.text for seen in member if part in ("", seen.part)) for member in members]


def said(*turns: str, **last: Any) -> list[dict[str, Any]]:
    """`user: ...`, `assistant: ...`; the last turn with more keys."""
    pairs = [turn.partition(": ")[::2] for turn in turns]
    made = [{"role": role, "content": content} for role, content in pairs]
    return [*made[:-1], {**made[-1], **last}]
